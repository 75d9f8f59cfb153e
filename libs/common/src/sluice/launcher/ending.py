"""Ending everything that was started in a data directory, with its supervisor or without."""

import time
from pathlib import Path

from sluice.errors import SluiceError
from sluice.launcher.control import Control, NotRunning, is_held
from sluice.launcher.state import end_leftovers

PATIENCE_SECONDS = 10.0


def end(data_dir: Path) -> list[str]:
    """Returns the names of what was running."""
    if not is_held(data_dir):
        return end_leftovers(data_dir)
    control = Control(data_dir)
    running = _ask_to_end(control)
    _wait_until_gone(data_dir)
    return running


def _ask_to_end(control: Control) -> list[str]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            rows = control.status()["processes"]
            control.down()
        except NotRunning:
            # It holds its lock a moment before it listens, and a moment after it has ended everything.
            if not is_held(control.data_dir):
                return end_leftovers(control.data_dir)
            if time.monotonic() > deadline:
                raise SluiceError(
                    f"the supervisor of {control.data_dir} does not listen: kill its process and try again"
                ) from None
            time.sleep(0.1)
        else:
            return [row["name"] for row in rows if row["pid"]]


def _wait_until_gone(data_dir: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_held(data_dir) and time.monotonic() < deadline:
        time.sleep(0.02)
