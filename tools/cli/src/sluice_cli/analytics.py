"""analytics: make the rollups again from the deliveries."""

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sluice.runtime.errors import SluiceError
from sluice_cli.arguments import time_argument

if TYPE_CHECKING:
    from sluice.store.analytics import Rebuilt

_REPORT_INTERVAL = 1.0  # seconds between two lines of progress


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    analytics = subparsers.add_parser("analytics", help="make the numbers of analytics again from the deliveries")
    commands = analytics.add_subparsers(title="commands", metavar="COMMAND", required=True)
    rebuild = commands.add_parser(
        "rebuild",
        help="delete and count again",
        description="Deletes the numbers of each day since the given one and counts its deliveries again, while the "
        "installation runs: until a day is counted, its numbers are too low. After an interruption, run it again. Days "
        "whose deliveries were deleted by retention keep their numbers.",
    )
    rebuild.add_argument(
        "--since",
        required=True,
        type=time_argument,
        help="a date or a time with its offset, such as 2026-11-01; whole days",
    )
    rebuild.set_defaults(run=run_rebuild)


def run_rebuild(options: argparse.Namespace) -> int:
    """Count again, with a line of progress a second."""
    asyncio.run(_rebuild(options.since))
    return 0


async def _rebuild(since: datetime) -> None:
    from sluice.runtime.clock import utc_now
    from sluice.store import analytics
    from sluice.store.db import UNAVAILABLE_ERRORS, open_pool
    from sluice_cli.context import address

    last: Rebuilt | None = None
    reported = started = time.monotonic()
    try:
        dsn = address("SLUICE_POSTGRES_DSN")
        async with open_pool(dsn, size=2, name="cli", command_timeout=60.0, wait=5.0) as pool:
            async for last in analytics.rebuild(pool, since=since, now=utc_now()):
                if time.monotonic() - reported >= _REPORT_INTERVAL:
                    reported = time.monotonic()
                    print(_line(last), flush=True)
    except UNAVAILABLE_ERRORS as error:
        raise SluiceError(
            f"the rebuild ended before its last day: {error or type(error).__name__}: run it again"
        ) from error
    if last is None:
        raise SluiceError("--since is after the newest day")
    print(f"{_line(last)}, in {time.monotonic() - started:.1f} s")


def _line(progress: Rebuilt) -> str:
    return f"counted to {progress.until:%Y-%m-%d %H:%M} UTC: {progress.deliveries:,} deliveries"
