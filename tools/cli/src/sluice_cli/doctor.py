"""doctor: check an installation, one line for each thing, with what to do."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice_cli.diagnosis.finding import Finding
    from sluice_cli.diagnosis.installation import Installation

    Check = Callable[[Installation], Awaitable[list[Finding]]]


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    doctor = subparsers.add_parser(
        "doctor",
        help="check settings, services, certificates and the way of receipts",
        description="Checks the installation: one line each, `ok`, `warn` or `FAIL`, and what to do. Posts a sample "
        "of a receipt to each provider's webhook at the public address; nothing is stored. Exits with 1 if one fails.",
    )
    doctor.add_argument("--no-samples", action="store_true", help="post nothing to the public address")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    """Print the findings; the exit code is 1 when one is a failure."""
    import logging

    from sluice_cli.diagnosis.finding import Level

    for library in ("aiokafka", "asyncio"):  # what they report of a server that is away is a finding
        logging.getLogger(library).setLevel(logging.CRITICAL)
    findings = asyncio.run(examine(post_samples=not options.no_samples))
    failed = any(finding.level is Level.FAIL for finding in findings)
    if options.json:
        print(json.dumps({"ok": not failed, "findings": [as_json(finding) for finding in findings]}, indent=2))
    else:
        print("\n".join(map(format_finding, findings)))
    return int(failed)


def as_json(finding: Finding) -> dict[str, str]:
    """One finding for scripts; the level in lower case."""
    return {
        "check": finding.check,
        "level": finding.level.value.lower(),
        "text": finding.text,
        "action": finding.action,
    }


def format_finding(finding: Finding) -> str:
    """One line for people."""
    action = f" -> {finding.action}" if finding.action else ""
    return f"{finding.level.value:<5} {finding.check}: {finding.text}{action}"


async def examine(*, post_samples: bool) -> list[Finding]:
    """All findings, in the order in which a fault explains those that follow."""
    import os

    from sluice_cli.context import launcher
    from sluice_cli.diagnosis import certificates, encryption, machine, services, variables
    from sluice_cli.diagnosis.finding import fail
    from sluice_cli.diagnosis.installation import read_installation

    installation = read_installation()
    if launcher() is not None and not installation.processes and "SLUICE_POSTGRES_DSN" not in installation.environment:
        return [fail("processes", "nothing runs here, and SLUICE_POSTGRES_DSN is not set", "`sluice up`")]
    os.environ.update(installation.environment)  # settings are read from there
    checks: tuple[Check, ...] = (
        variables.check,
        encryption.check_key,
        machine.check_disk,
        machine.check_processes,
        services.check_postgres,
        services.check_redis,
        services.check_kafka,
        certificates.check,
    )
    findings = [finding for check in checks for finding in await guarded(check, installation)]
    return findings + await guarded(lambda one: _examine_providers(one, post_samples=post_samples), installation)


async def guarded(check: Check, installation: Installation) -> list[Finding]:
    """The findings of a check; an error that it does not expect is one, too, so that the others still run."""
    from sluice.runtime.errors import SluiceError
    from sluice_cli.diagnosis.finding import fail

    try:
        return await check(installation)
    except Exception as error:  # whatever a broken installation makes a check raise
        name = getattr(check, "__module__", "").rpartition(".")[2]
        # The text of an error that is not ours may contain an address with its password.
        text = str(error) if isinstance(error, SluiceError) else f"this check could not be made: {type(error).__name__}"
        return [fail(name, text, "correct it, or report it")]


async def _examine_providers(installation: Installation, *, post_samples: bool) -> list[Finding]:
    """What needs the rows of the providers; nothing while PostgreSQL is away, which is a finding already."""
    from sluice.providers.registry import installed
    from sluice.runtime.errors import SluiceError
    from sluice.store import provider_receipts, providers
    from sluice_cli.context import database
    from sluice_cli.diagnosis import encryption, receipts
    from sluice_cli.diagnosis.finding import Level

    try:
        async with database() as connection:
            rows = [row for row in await providers.list_providers(connection) if not row.deleted]
            counts = await provider_receipts.list_all(connection)
        findings = encryption.check_rows(installation, rows)
    except SluiceError:
        return []
    enabled = [row for row in rows if row.enabled]
    webhooks = {name for name, package in installed().items() if package.parse_webhook is not None}
    needed = any(row.package in webhooks for row in enabled)
    if not post_samples:
        return findings + await receipts.check_receipts(installation, enabled, counts, post_samples=False)
    address = await receipts.check_public_address(installation, needed=needed)
    works = all(finding.level is not Level.FAIL for finding in address)
    return findings + address + await receipts.check_receipts(installation, enabled, counts, post_samples=works)
