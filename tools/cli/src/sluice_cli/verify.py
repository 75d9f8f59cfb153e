"""verify: check the invariants on a live database."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.runtime.arguments import within

if TYPE_CHECKING:
    from sluice_cli.verification import Report


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    verify = subparsers.add_parser(
        "verify",
        help="check the database for lost, duplicated and stalled deliveries",
        description="Checks the invariants I1, I2, I3 and I5 of docs/architecture.md; exits with 1 if one is violated.",
    )
    verify.add_argument(
        "--call-log",
        type=Path,
        action="append",
        default=[],
        help="calls.jsonl of `sluice simulate`, to compare with; may be repeated",
    )
    verify.add_argument("--at-rest", action="store_true", help="report every unsettled delivery")
    verify.add_argument(
        "--grace",
        type=within(float, 0, 31_536_000),
        default=60.0,
        help="seconds that a delivery may be overdue (default %(default)s)",
    )
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(run=run_verify)


def run_verify(options: argparse.Namespace) -> int:
    """Print the report; the exit code is 1 when an invariant is violated."""
    from sluice_cli.context import address

    report = asyncio.run(_verify(address("SLUICE_POSTGRES_DSN"), options))
    print(json.dumps(report.as_json(), indent=2) if options.json else format_report(report))
    return 1 if report.violations else 0


async def _verify(dsn: str, options: argparse.Namespace) -> Report:

    from sluice.runtime.clock import utc_now
    from sluice.store.invariants import verification_connection
    from sluice_cli.verification import verify

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text}   ", end="", file=sys.stderr, flush=True)

    try:
        async with verification_connection(dsn) as connection:
            return await verify(
                connection,
                now=utc_now(),
                at_rest=options.at_rest,
                grace=timedelta(seconds=options.grace),
                call_logs=options.call_log,
                progress=progress,
            )
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)


def format_report(report: Report) -> str:
    """The report for a person, several lines."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(report.states.items())) or "none"
    lines = [
        f"deliveries  {report.deliveries} ({states})",
        f"attempts    {report.attempts}, of which unknown {report.unknown_attempts}",
    ]
    if report.calls:
        lines.append(
            f"calls       {report.calls}, beyond the first {report.extra_calls}, duplicates {report.duplicates}"
        )
    lines += [f"  {fault['id']}  {fault['fault']}" for fault in report.faults]
    lines += [
        f"  {one['id']}  refused {one['records']} records with another {one['field']}"
        for one in report.bus_disagreements
    ]
    if report.violations > len(report.faults):
        lines.append(f"  … and {report.violations - len(report.faults)} more")
    lines.append(f"{report.violations} violations" if report.violations else "every invariant holds")
    return "\n".join(lines)
