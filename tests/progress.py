"""Progress of a program of the tests: lines with the seconds since its start."""

import sys
import time

_BEGAN = time.monotonic()


def seconds_since_start() -> float:
    """Since this module was imported, which a program does first."""
    return time.monotonic() - _BEGAN


def progress(text: str) -> None:
    """Print a line."""
    print(_line(text), flush=True)


def progress_beside(text: str) -> None:
    """Print a line on stderr, beside a JSON object on stdout."""
    print(_line(text), file=sys.stderr, flush=True)


def _line(text: str) -> str:
    return f"[{seconds_since_start():6.1f}] {text}"
