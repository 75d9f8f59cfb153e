"""retention: what the database keeps, and what is too old."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice.store.retention import RetentionLimits


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    retention = subparsers.add_parser(
        "retention",
        help="show what the database keeps, and delete what is too old",
        description="Shows the weeks that the database keeps, and which of them are older than SLUICE_RETENTION_DAYS. "
        "The router deletes those every hour; --delete does it now.",
    )
    retention.add_argument("--delete", action="store_true", help="delete now what is too old")
    retention.set_defaults(run=run_retention)


def run_retention(options: argparse.Namespace) -> int:
    """Print the weeks with their sizes, or delete the expired ones; 1 if not everything could be deleted."""
    from sluice.runtime.settings import load
    from sluice.store.retention import RetentionSettings
    from sluice_cli.context import environment

    named = {name: environment().get(f"SLUICE_{name.upper()}") for name in RetentionSettings.model_fields}
    settings = load(RetentionSettings, **{name: value for name, value in named.items() if value})
    lines, code = asyncio.run(_run(settings.retention_limits(), delete=options.delete))
    print("\n".join(lines))
    return code


async def _run(limits: RetentionLimits, *, delete: bool) -> tuple[list[str], int]:
    from sluice.store.db import open_pool
    from sluice_cli.context import address

    dsn = address("SLUICE_POSTGRES_DSN")
    async with open_pool(dsn, size=2, name="cli", command_timeout=60.0, wait=5.0) as pool:
        return await _delete(pool, limits) if delete else (await _describe(pool, limits), 0)


async def _describe(pool: Any, limits: RetentionLimits) -> list[str]:
    from sluice.runtime.clock import utc_now
    from sluice.store import retention

    expired = set()
    if limits.messages is not None:
        expired = set(await retention.expired_weeks(pool, utc_now() - limits.messages))
    kept = "for ever" if limits.messages is None else f"for {limits.messages.days} days"
    lines = [f"messages are kept {kept} (SLUICE_RETENTION_DAYS)", f"{'week':10}{'size':>12}  {'messages, about':>16}"]
    for week in await retention.list_weeks(pool):
        mark = "  older than that" if week.name in expired else ""
        messages = "-" if week.messages is None else f"{week.messages:,}"
        lines.append(f"{week.name:10}{week.size / 1e6:>9.1f} MB  {messages:>16}{mark}")
    return lines


async def _delete(pool: Any, limits: RetentionLimits) -> tuple[list[str], int]:
    from sluice.runtime.clock import utc_now
    from sluice.store import retention

    deleted = await retention.delete_expired(pool, limits, now=utc_now())
    lines = [
        f"table partitions dropped: {len(deleted.partitions)} {' '.join(deleted.partitions)}".rstrip(),
        f"weeks kept because a delivery is not settled: {' '.join(deleted.kept) or 'none'}",
        f"deliveries outside of weeks: {deleted.rows}",
        f"attachments: {deleted.attachments}",
        f"messages captured by the sandbox: {deleted.sandbox_messages}",
        f"messages whose content was erased: {deleted.erased_messages}",
        f"rollups of analytics: {deleted.rollups}",
        f"addresses and devices of deleted projects: {deleted.orphans}",
        f"credentials of deleted providers: {deleted.credentials}",
        *(f"not deleted, try again: {step}: {error}" for step, error in deleted.failed.items()),
    ]
    return lines, 1 if deleted.failed else 0
