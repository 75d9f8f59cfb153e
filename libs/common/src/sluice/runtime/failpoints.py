"""Named places where a test can make a process die, to see what becomes of the messages it held.

Each is written ``assert crash.at("role.step")``: with ``python -O``, which is how releases run, the compiler leaves
asserts out, so the points are absent there (tests/repository checks it). Everywhere else they cost a look into a dict and
do nothing unless ``SLUICE_CRASH_FILE`` names a file. While that file holds ``name:n``, the n-th pass through the
point of that name, in whichever process makes it first, ends that process as ``kill -9`` would. It takes the file
away (to ``….fired``), so that one arming kills once and a restarted process runs on.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

_KILLED = 137  # the exit code of a process that was killed with signal 9
_LOOK_EVERY = 0.05  # seconds

_left: dict[str, int] = {}


def at(name: str) -> bool:
    """Always true; ends the process when this is the pass that was asked for."""
    if name in _left:
        _left[name] -= 1
        if _left[name] == 0 and _take(Path(os.environ["SLUICE_CRASH_FILE"])):
            os._exit(_KILLED)
    return True


def _take(file: Path) -> bool:
    """Whether this process is the one that dies: a rename succeeds once."""
    try:
        file.rename(f"{file}.fired")
    except FileNotFoundError:
        return False
    return True


def _follow(file: Path) -> None:
    armed = ""
    while True:
        try:
            text = file.read_text("utf-8").strip()
        except FileNotFoundError:
            text = ""
        if text != armed:
            armed = text
            name, _, count = text.rpartition(":")
            _left.clear()
            if name and count.isdigit():
                _left[name] = int(count)
        time.sleep(_LOOK_EVERY)


if "SLUICE_CRASH_FILE" in os.environ:
    threading.Thread(target=_follow, args=(Path(os.environ["SLUICE_CRASH_FILE"]),), name="crash", daemon=True).start()
