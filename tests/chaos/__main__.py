"""The command line: `python -m tests.chaos chaos|sweep|campaigns`."""

import argparse
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos import report, sweep
from tests.chaos.campaigns import runner
from tests.chaos.campaigns.runner import CAMPAIGNS
from tests.chaos.run import RECOVERED_WITHIN, Size, run
from tests.chaos.workloads import POINTS
from tests.progress import progress


def main() -> int:
    """Run a command; the exit code is 1 when an invariant was violated."""
    # During an outage aiokafka repeats each connection error several times a second; asyncio reports the sockets.
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options = _parser().parse_args()
    found: int = options.run(options)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    subparsers = parser.add_subparsers(required=True)
    chaos = subparsers.add_parser("chaos", help="load and random faults, then the check over six ledgers")
    chaos.add_argument("--messages", type=int, default=10_000)
    chaos.add_argument("--kills", type=int, default=200)
    chaos.add_argument("--seed", type=int, default=7)
    chaos.add_argument("--seconds", type=float, help="of load and faults (default: three a kill)")
    chaos.add_argument(
        "--recovered-within",
        type=float,
        default=RECOVERED_WITHIN,
        help="seconds after the heal, for 99 of 100 (default: %(default)s)",
    )
    _common(chaos)
    chaos.set_defaults(run=_chaos)
    sweeping = subparsers.add_parser("sweep", help="kill a process at every failpoint, n-th hit, on both channels")
    sweeping.add_argument("--points", nargs="*", default=list(POINTS), help="default: all")
    sweeping.add_argument("--passes", nargs="*", type=int, default=[1, 2, 3])
    sweeping.add_argument("--channels", nargs="*", default=["email", "sms"])
    sweeping.add_argument("--steps", nargs="*", metavar="POINT:N:CHANNEL", help="exactly these instead")
    _common(sweeping)
    sweeping.set_defaults(run=_sweep)
    campaigns = subparsers.add_parser("campaigns", help="one kind of fault each, in quantity")
    campaigns.add_argument(
        "names", nargs="*", choices=[*CAMPAIGNS, []], metavar="name", help=f"default: all of {', '.join(CAMPAIGNS)}"
    )
    campaigns.add_argument("--size", type=int, help="of each (default: in full)")
    campaigns.add_argument("--small", action="store_true", help="the sizes of CI")
    _common(campaigns)
    campaigns.set_defaults(run=_campaigns)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="working folder, kept (default: a temporary one, kept on failure)")
    parser.add_argument("--no-report", action="store_true", help="do not write docs/reliability.md")


def _chaos(options: argparse.Namespace) -> int:
    seconds = options.seconds or max(3.0 * options.kills, options.messages / 40)
    size = Size(options.messages, options.kills, options.seed, seconds, options.recovered_within)
    command = f"make chaos MESSAGES={size.messages} KILLS={size.kills} SEED={size.seed}"
    with _folder(options.folder) as folder:
        figures = run(size, folder, progress)
        return _end("chaos", command, figures, folder, options)


def _sweep(options: argparse.Namespace) -> int:
    wanted = sweep.steps(options.points, options.passes, options.channels)
    if options.steps:
        parts = [text.split(":") for text in options.steps]
        wanted = [sweep.Step(point, int(n), channel) for point, n, channel in parts]
    with _folder(options.folder) as folder:
        figures = sweep.run(wanted, folder, progress)
        return _end("crash-sweep", "make crash-sweep", figures, folder, options)


def _campaigns(options: argparse.Namespace) -> int:
    chosen = [CAMPAIGNS[name] for name in options.names or CAMPAIGNS]
    sizes = {one.name: options.size or (one.small if options.small else one.full) for one in chosen}
    with _folder(options.folder) as folder:
        figures = runner.run(sizes, folder, progress)
        figures["table"] = runner.table(figures["campaigns"])
        command = f"make campaigns NAMES='{' '.join(sizes)}'" if options.names else "make campaigns"
        return _end("campaigns", command, figures, folder, options)


def _end(name: str, command: str, figures: dict[str, Any], folder: Path, options: argparse.Namespace) -> int:
    """Print and store the result; the last line is one JSON object."""
    evidence, table = figures.pop("evidence", []), figures.pop("table", "")
    for line in evidence:
        progress(f"VIOLATED {line}")
    if figures["violations"]:
        (folder / "violations").touch()
        progress(f"the ledgers, logs and data are kept in {folder}")
    if not options.no_report:
        report.write(name, command=command, figures=figures, table=table)
    print(json.dumps(figures), flush=True)
    return 1 if figures["violations"] else 0


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """The working folder; a temporary one is deleted unless an invariant was violated."""
    folder = wanted.absolute() if wanted else Path(tempfile.mkdtemp(prefix="sluice-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        print(f"the ledgers, logs and data are kept in {folder}", file=sys.stderr, flush=True)
        raise
    if wanted is None and not (folder / "violations").exists():
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
