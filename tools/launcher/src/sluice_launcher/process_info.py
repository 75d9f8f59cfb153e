"""Processes as the kernel shows them: identity beyond the recycled pid, children, memory, ports."""

import contextlib
import os
import secrets
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
    """Identifies one process for ever: a pid is reused, a pid with its start time and boot is not."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """None if there is no such process, or only its zombie."""
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), (PROC / "sys/kernel/random/boot_id").read_text().strip())

    def alive(self) -> bool:
        """Whether it still runs."""
        return Identity.of(self.pid) == self

    def kill(self, number: int) -> None:
        """Send a signal to this process, and never to another one with the same pid."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The handle pins the process that has the pid now: check and signal concern the same one.
            if self.alive():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)

    def wait_exit(self, seconds: float) -> bool:
        """Whether it ends within ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants."""
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
    """Memory in bytes of a process and (unless ``alone``) its descendants: PSS if readable, otherwise RSS."""
    members = [pid] if alone else process_tree(pid)
    return sum(_proportional(member) or _resident(member) for member in members)


def port_owner(port: int) -> str | None:
    """The process that listens on a TCP port, as `name (pid 12)`; None if there is none or it is not visible."""
    inodes = _listening_inodes(port)
    for pid in _pids() if inodes else ():
        if inodes & set(_socket_inodes(pid)):
            return f"{(PROC / str(pid) / 'comm').read_text().strip()} (pid {pid})"
    return None


def free_port() -> int:
    """A port that no server uses, below the range from which the kernel takes those of outgoing connections.

    For a minute no other process is given it: the connection that is made and closed here leaves the port in
    TIME_WAIT, where a server may listen on it (SO_REUSEADDR) and this function does not take it.
    """
    while True:
        with socket.socket() as server, contextlib.suppress(OSError):
            server.bind(("127.0.0.1", 20000 + secrets.randbelow(12000)))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.listen(1)
            with socket.create_connection(server.getsockname()):
                server.accept()[0].close()
            return int(server.getsockname()[1])


def outgoing_range() -> range:
    """The ports from which the kernel takes those of outgoing connections."""
    first, last = (PROC / "sys/net/ipv4/ip_local_port_range").read_text().split()
    return range(int(first), int(last) + 1)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on it."""
    with socket.socket() as probe:
        # As servers do: a port whose connections are all in TIME_WAIT is free.
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
