"""Named places where a test can make a process die, to see what becomes of the messages it held.

Each is written ``assert crash.at("role.step")``: with ``python -O``, which is how releases run, the compiler leaves
asserts out, so the points are absent there (tests/repository checks it). Everywhere else they cost a look into a dict and
do nothing unless ``SLUICE_FAILPOINTS_FILE`` names a file. While that file holds ``name:n``, the n-th pass through the
point of that name, in whichever process makes it first, ends that process as ``kill -9`` would. It takes the file
away (to ``….fired``), so that one arming kills once and a restarted process runs on.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

_EXIT_CODE = 137  # the exit code of a process that was killed with signal 9
_CHECK_INTERVAL = 0.05  # seconds

_remaining: dict[str, int] = {}


def hit(name: str) -> bool:
    """Always true; ends the process when this is the pass that was asked for."""
    if name in _remaining:
        _remaining[name] -= 1
        if _remaining[name] == 0 and _consume(Path(os.environ["SLUICE_FAILPOINTS_FILE"])):
            os._exit(_EXIT_CODE)
    return True


def _consume(file: Path) -> bool:
    """Whether this process is the one that dies: a rename succeeds once."""
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
        target=_watch_file, args=(Path(os.environ["SLUICE_FAILPOINTS_FILE"]),), name="crash", daemon=True
    ).start()
