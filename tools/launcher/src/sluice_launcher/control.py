"""The client of a running supervisor: one JSON line each way, over a socket in the data directory."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice.runtime.errors import SluiceError

SOCKET = "run/control.sock"
LOCK = "run/supervisor.lock"

# Longer than the slowest command: a role may take 25 s to stop, and Kafka longer to start.
ANSWER_SECONDS = 240.0


class NotRunning(SluiceError):
    """No supervisor runs in this data directory."""


@dataclass(frozen=True, slots=True)
class SupervisorClient:
    """The supervisor of one data directory.

    Every call raises NotRunning if there is none, and SluiceError with the supervisor's message if it fails.
    """

    data_dir: Path

    def status(self) -> dict[str, Any]:
        """Phase, uptime and one row per process, see `status.rows`."""
        return self._request(command="status")

    def environment(self) -> dict[str, str]:
        """The environment of a role: addresses, key file, data directory."""
        found: dict[str, str] = self._request(command="environment")["environment"]
        return found

    def stop(self, name: str) -> None:
        """Returns when it has ended."""
        self._request(command="stop", name=name)

    def start(self, name: str) -> None:
        """Returns when it is ready."""
        self._request(command="start", name=name)

    def restart(self, name: str, *, wipe: bool = False) -> None:
        """Returns when it is ready again; `wipe` deletes the data of kafka or redis in between."""
        self._request(command="restart", name=name, wipe=wipe)

    def scale(self, numbers: Mapping[str, int]) -> dict[str, int]:
        """Run these numbers of processes of roles, and return the number of each role. Returns when they are ready."""
        found: dict[str, int] = self._request(command="scale", numbers=dict(numbers))["scale"]
        return found

    def not_ready(self) -> list[str]:
        """The processes whose probe fails now."""
        found: list[str] = self._request(command="verify")["not_ready"]
        return found

    def down(self) -> None:
        """Returns when all processes have ended; the supervisor ends next."""
        self._request(command="down")

    def process(self, name: str) -> dict[str, Any]:
        """Its row of the status."""
        rows: list[dict[str, Any]] = self.status()["processes"]
        found = next((row for row in rows if row["name"] == name), None)
        if found is None:
            raise SluiceError(f"there is no process called {name}")
        return found

    def pid(self, name: str) -> int:
        """Its pid; raises SluiceError if it does not run."""
        pid = self.process(name)["pid"]
        if pid is None:
            raise SluiceError(f"{name} is not running")
        return int(pid)

    def _request(self, **question: Any) -> dict[str, Any]:
        try:
            with _connection(self.data_dir / SOCKET) as connection:
                connection.sendall(json.dumps(question).encode() + b"\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except (FileNotFoundError, ConnectionError) as absent:
            raise NotRunning("nothing is running: `sluice up` starts everything") from absent
        except TimeoutError as late:
            raise SluiceError(f"the supervisor did not respond within {ANSWER_SECONDS:.0f} s") from late
        if not answer:
            raise NotRunning("the supervisor ended before it responded")
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise SluiceError(found["error"])
        return found


def supervisor_running(data_dir: Path) -> bool:
    """Whether a supervisor runs: its lock is released with its process, however that ends."""
    try:
        handle = os.open(data_dir / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for a socket of at most 107 bytes, the kernel's limit, however long its directory's path is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


@contextmanager
def _connection(path: Path) -> Iterator[socket.socket]:
    with short_path(path) as name, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(name)
        yield connection
