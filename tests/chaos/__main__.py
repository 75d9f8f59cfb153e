"""The command line of the proof."""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos import report
from tests.chaos.run import Size, run

_BEGAN = time.monotonic()


def tell(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.1f}] {text}", flush=True)


def main() -> int:
    # During an outage aiokafka repeats each connection error several times a second; asyncio tells of the sockets.
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options = _parser().parse_args()
    found: int = options.run(options)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    subparsers = parser.add_subparsers(required=True)
    chaos = subparsers.add_parser("chaos", help="load and random faults, then the check over five ledgers")
    chaos.add_argument("--messages", type=int, default=10_000)
    chaos.add_argument("--kills", type=int, default=200)
    chaos.add_argument("--seed", type=int, default=7)
    chaos.add_argument("--seconds", type=float, help="of load and faults (default: three a kill)")
    _common(chaos)
    chaos.set_defaults(run=_chaos)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="where to work; kept (default: a temporary one, kept on failure)")
    parser.add_argument("--no-report", action="store_true", help="leave docs/reliability.md alone")


def _chaos(options: argparse.Namespace) -> int:
    seconds = options.seconds or max(3.0 * options.kills, options.messages / 40)
    size = Size(options.messages, options.kills, options.seed, seconds)
    command = f"make chaos MESSAGES={size.messages} KILLS={size.kills} SEED={size.seed}"
    with _folder(options.folder) as folder:
        figures = run(size, folder, tell)
        return _end("chaos", command, figures, folder, options)


def _end(name: str, command: str, figures: dict[str, Any], folder: Path, options: argparse.Namespace) -> int:
    """Say what came of it; the last line is for machines."""
    evidence = figures.pop("evidence", [])
    for line in evidence:
        tell(f"BROKEN {line}")
    if figures["broken"]:
        (folder / "broken").touch()
        tell(f"the ledgers, logs and data are kept in {folder}")
    if not options.no_report:
        report.write(name, command=command, figures=figures)
    print(json.dumps(figures), flush=True)
    return 1 if figures["broken"] else 0


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """A folder to work in; a temporary one is deleted unless something was broken."""
    folder = wanted.absolute() if wanted else Path(tempfile.mkdtemp(prefix="sluice-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        print(f"the ledgers, logs and data are kept in {folder}", file=sys.stderr, flush=True)
        raise
    if wanted is None and not (folder / "broken").exists():
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
