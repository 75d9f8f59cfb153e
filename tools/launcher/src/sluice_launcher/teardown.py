"""Ending everything that was started in a data directory, with its supervisor or without."""

import time
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice_launcher.control import Control, NotRunning, is_held
from sluice_launcher.process_info import Identity
from sluice_launcher.state import end_leftovers

PATIENCE_SECONDS = 10.0


def end(data_dir: Path) -> list[str]:
    """Returns the names of what was running."""
    if not is_held(data_dir):
        return end_leftovers(data_dir)
    return _ask_to_end(Control(data_dir))


def _ask_to_end(control: Control) -> list[str]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            rows = [row for row in control.status()["processes"] if row["pid"]]
            supervisor = Identity.of(rows[0]["pid"])
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
            if supervisor is not None:
                supervisor.wait_gone(PATIENCE_SECONDS)
            return [row["name"] for row in rows]
