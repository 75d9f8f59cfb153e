"""game-day: what faults of providers do to the messages of the running installation."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.runtime.arguments import within
from sluice.runtime.errors import SluiceError
from sluice_cli.terminal import table

if TYPE_CHECKING:
    from sluice_cli.game_day.faults import Fault

NAMES = ("outage", "hang", "partial", "slow", "flap", "throttle", "silent-loss")
_COLUMNS = {
    "detected_s": "detected s",
    "late_percent": "late %",
    "email_late_percent": "late e-mails %",
    "email_p99_over_before": "e-mail p99 / before",
    "lost": "lost",
    "duplicates": "twice",
    "failed": "failed",
    "early_calls": "early calls",
    "returned_s": "returned s",
}


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    game_day = subparsers.add_parser(
        "game-day",
        help="faults of simulated providers on the running installation: what they cost",
        description="Sends messages through two simulated e-mail and two simulated SMS providers, in a project of its "
        "own, and lets the first one of a channel fail in several ways. Prints for each fault the time until it is "
        "noticed, late, lost and doubled messages, and the time until the repaired provider is used again. The exit "
        "code is 1 if one of the figures is over its bound. Needs an installation that runs on this machine.",
    )
    game_day.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(NAMES)} (default: all)")
    game_day.add_argument(
        "--rate", type=within(float, 1, 200), default=30.0, help="messages a second (default %(default)g)"
    )
    game_day.add_argument(
        "--seconds", type=within(float, 5, 1800), help="how long each fault lasts (default: 30, flap 36)"
    )
    game_day.add_argument(
        "--record-metrics",
        metavar="FILE",
        type=Path,
        help="append the metrics of every process to FILE, to test alerts",
    )
    game_day.add_argument("--json", action="store_true", help="print one JSON object")
    game_day.set_defaults(run=run_game_day)


def run_game_day(options: argparse.Namespace) -> int:
    """Run the faults.

    Raises:
        SluiceError: a fault has another name, or no installation runs here.
    """
    from sluice_cli.simulated_projects import require_simulator

    unknown = [name for name in options.faults if name not in NAMES]
    if unknown:
        raise SluiceError(f"there is no fault {unknown[0]!r}: there are {', '.join(NAMES)}")
    require_simulator("sluice game-day")
    from sluice_cli.game_day.faults import FAULTS

    chosen = [FAULTS[name] for name in options.faults or NAMES]
    found = asyncio.run(_run(chosen, options))
    over = sum(len(figures["broken"]) for figures in found.values())
    if options.json:
        print(json.dumps({"faults": found, "broken": over}))
    else:
        print(format_table(found))
    return 1 if over else 0


async def _run(chosen: Sequence[Fault], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    from sluice_cli.game_day.recording import recording
    from sluice_cli.game_day.run import run_faults

    async with recording(options.record_metrics) if options.record_metrics else nullcontext():
        return await run_faults(chosen, rate=options.rate, seconds=options.seconds, progress=_progress)


def format_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures under headings, and what is over its bound."""
    head = ["fault", *_COLUMNS.values()]
    rows = [[name, *(_cell(figures[column]) for column in _COLUMNS)] for name, figures in found.items()]
    over = [f"{name}: {text}" for name, figures in found.items() for text in figures["broken"]]
    return "\n".join([*table([head, *rows], numbers=True), "", *(over or ["every figure is within its bound"])])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
