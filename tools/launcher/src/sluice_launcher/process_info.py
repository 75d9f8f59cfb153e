"""What the kernel knows about processes: identity beyond the recyclable pid, children, memory."""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROC = Path("/proc")
LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for ever: a pid comes again, a pid with its start time and boot does not."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """None when there is no such process, or only its zombie."""
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), (PROC / "sys/kernel/random/boot_id").read_text().strip())

    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def kill(self, number: int) -> None:
        """Signal this process, and never another that got its pid."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The handle pins whoever has the pid now, so the question and the signal mean the same process.
            if self.alive():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)

    def wait_exit(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def process_tree(pid: int) -> list[int]:
    """The process and everything below it."""
    children: dict[int, list[int]] = {}
    for other in _pids():
        fields = _stat(other)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(other)
    found = [pid]
    for member in found:
        found.extend(children.get(member, []))
    return found


def memory(pid: int, *, alone: bool = False) -> int:
    """Bytes of a process and (unless alone) everything below it: its fair share of shared pages where
    that may be read."""
    members = [pid] if alone else process_tree(pid)
    return sum(_proportional(member) or _resident(member) for member in members)


def port_owner(port: int) -> str | None:
    """Who listens on a TCP port: `name (pid 12)`; None where nobody does or it cannot be known."""
    inodes = _listening_inodes(port)
    for pid in _pids() if inodes else ():
        if inodes & set(_socket_inodes(pid)):
            return f"{(PROC / str(pid) / 'comm').read_text().strip()} (pid {pid})"
    return None


def free_port() -> int:
    """A port nobody listens on, below the range from which the kernel serves outgoing connections:
    one from that range could be taken between our look and the server's."""
    while not port_is_free(port := random.randrange(20000, 32000)):  # noqa: S311
        pass
    return port


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do it: a port that only has connections in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir(PROC) if entry.isdecimal())


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on: the name before it may hold anything."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _proportional(pid: int) -> int | None:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)


def _resident(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields is not None else 0


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _socket_inodes(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for handle in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(handle)
                if target.startswith("socket:["):
                    yield target[8:-1]
