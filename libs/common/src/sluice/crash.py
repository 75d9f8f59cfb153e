"""Named places where a test can make a process die, to see what becomes of the messages it held.

Each is written ``assert crash.at("role.step")``: with ``python -O``, which is how releases run, the compiler leaves
asserts out, so the points are absent there (tests/house checks it). Everywhere else they cost a look into a dict and
do nothing unless ``SLUICE_CRASH=name:n`` names them: then the n-th pass ends the process as ``kill -9`` would.
"""

from __future__ import annotations

import os

_KILLED = 137  # the exit code of a process that was killed with signal 9


def _armed() -> dict[str, int]:
    name, _, count = os.environ.get("SLUICE_CRASH", "").rpartition(":")
    return {name: int(count)} if name and count.isdigit() else {}


_left = _armed()


def at(name: str) -> bool:
    """Always true; ends the process when this is the pass that ``SLUICE_CRASH`` names."""
    if name in _left:
        _left[name] -= 1
        if _left[name] == 0:
            os._exit(_KILLED)
    return True
