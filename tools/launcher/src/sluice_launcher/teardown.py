"""Stops everything that was started in a data directory, with or without its supervisor."""

import time
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice_launcher.control import NotRunning, SupervisorClient, supervisor_running
from sluice_launcher.process_info import Identity
from sluice_launcher.state import kill_orphans

SHUTDOWN_SECONDS = 10.0


def stop_all(data_dir: Path) -> list[str]:
    """Stop it; returns the names of the processes that ran.

    Raises:
        SluiceError: its supervisor does not respond.
    """
    if not supervisor_running(data_dir):
        return kill_orphans(data_dir)
    return _ask_to_end(SupervisorClient(data_dir))


def _ask_to_end(control: SupervisorClient) -> list[str]:
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while True:
        try:
            rows = [row for row in control.status()["processes"] if row["pid"]]
            supervisor = Identity.of(rows[0]["pid"])
            control.down()
        except NotRunning:
            # The supervisor holds its lock shortly before it listens and after it has stopped everything.
            if not supervisor_running(control.data_dir):
                return kill_orphans(control.data_dir)
            if time.monotonic() > deadline:
                raise SluiceError(
                    f"the supervisor of {control.data_dir} does not listen: kill its process and try again"
                ) from None
            time.sleep(0.1)
        else:
            if supervisor is not None:
                supervisor.wait_exit(SHUTDOWN_SECONDS)
            return [row["name"] for row in rows]
