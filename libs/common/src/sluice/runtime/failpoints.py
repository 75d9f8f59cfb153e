"""Failpoints: named points in the code at which a test can kill the process.

Each is written ``assert failpoints.hit("role.step")``. Releases run with ``python -O``, whose compiler drops asserts,
so they contain no failpoints (tests/repository checks it). Elsewhere a failpoint costs one look-up in a dict, and does
nothing unless ``SLUICE_FAILPOINTS_FILE`` names a file. While that file contains ``name:n``, the n-th hit of that
failpoint, in the first process that makes it, ends the process as ``kill -9`` does. The process renames the file to
``….fired`` first, so that one arming kills once and the restarted process continues.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

_EXIT_CODE = 137  # of a process killed with signal 9
_CHECK_INTERVAL = 0.05  # seconds

_remaining: dict[str, int] = {}


def hit(name: str) -> bool:
    """Always true; ends the process at the armed hit."""
    if name in _remaining:
        _remaining[name] -= 1
        if _remaining[name] == 0 and _consume(Path(os.environ["SLUICE_FAILPOINTS_FILE"])):
            os._exit(_EXIT_CODE)
    return True


def _consume(file: Path) -> bool:
    """Whether this process is the one to end: the rename succeeds in one process only."""
    try:
        file.rename(f"{file}.fired")
    except FileNotFoundError:
        return False
    return True


def _watch_file(file: Path) -> None:
    armed = ""
    while True:
        try:
            text = file.read_text("utf-8").strip()
        except FileNotFoundError:
            text = ""
        if text != armed:
            armed = text
            name, _, count = text.rpartition(":")
            _remaining.clear()
            if name and count.isdigit():
                _remaining[name] = int(count)
        time.sleep(_CHECK_INTERVAL)


if "SLUICE_FAILPOINTS_FILE" in os.environ:
    threading.Thread(
        target=_watch_file, args=(Path(os.environ["SLUICE_FAILPOINTS_FILE"]),), name="failpoints", daemon=True
    ).start()
