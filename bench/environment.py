"""The environment of the measured systems: servers, sink, generators, a folder, and their clean end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import results_db
from bench.counters import Counters
from bench.load import Generators
from bench.sink_client import Sink
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.plan import OWNER, kafka_login
from sluice_launcher.roles import ADDRESS_SETTINGS, SERVICES
from sluice_launcher.state import read_state

_FREE_SPACE = 3 * 2**30
_PREFIX = "sluice-bench-"
_LOCK = "bench.lock"


class Environment:
    """``with Environment() as env``: PostgreSQL (durable), Kafka, Redis, the sink and the generators, on free ports."""

    def __init__(self, *, keep: bool = False, limit: float | None = None) -> None:
        self._keep = keep
        self._limit = limit
        self._stack = ExitStack()
        self._began = time.monotonic()
        self._run = 0

    def __enter__(self) -> Self:
        _raise_limit()
        with ExitStack() as stack:
            _sweep(Path(tempfile.gettempdir()))
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            stack.callback(self._clean)
            stack.enter_context(_held(self.folder / _LOCK))
            if shutil.disk_usage(self.folder).free < _FREE_SPACE:
                self.say(f"there is little room in {self.folder.parent}: name another directory in TMPDIR")
            with Counters(self.folder / "counters"):
                pass
            self.counters = stack.enter_context(Counters(self.folder / "counters"))
            with environment(dict.fromkeys(ADDRESS_SETTINGS.values(), "")):
                self.services = LocalStack(self.folder / "services", services=SERVICES, roles=(), testing=False)
                stack.enter_context(self.services)
            # Each measured system has a database of its own.
            asyncio.run(results_db.execute(self.services.superuser_dsn, f"ALTER ROLE {OWNER} CREATEDB"))
            stack.enter_context(environment(kafka_login(self.services.environment)))
            self.say("PostgreSQL, Kafka and Redis run")
            self.sink = Sink(self.folder, sys.executable)
            stack.callback(self.sink.end)
            self.generators = Generators(self.folder, sys.executable)
            stack.callback(self.generators.end)
            self.say(f"the generators run ({self.generators.priority}), and the sink ({self.sink.priority})")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _clean(self) -> None:
        if self._keep:
            (self.folder / _LOCK).unlink(missing_ok=True)
            self.say(f"everything is kept in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def say(self, text: str) -> None:
        """A line of progress, with the seconds since the start."""
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", file=sys.stderr, flush=True)

    def time_left(self, seconds: float) -> bool:
        """Whether ``seconds`` are left before the limit."""
        return self._limit is None or time.monotonic() - self._began + seconds < self._limit

    @property
    def took(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def next_run(self) -> int:
        """The next run number: it makes keys and recipients unique."""
        self._run += 1
        return self._run

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses of postgres, kafka and redis."""
        return self.services.addresses

    def roots(self) -> dict[str, int]:
        """The root process of every server, of the sink and of the generators."""
        found = {name: child.pid for name, child in read_state(self.folder / "services").items()}
        return {name: found[name] for name in SERVICES if name in found} | self.sink.roots | self.generators.roots


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set variables while the block runs; an empty text unsets one."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set(changes)
        yield
    finally:
        _set({name: value or "" for name, value in before.items()})


def _set(changes: Mapping[str, str]) -> None:
    for name, value in changes.items():
        if value:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


def wait_for_port(port: int, alive: Callable[[], bool], *, seconds: float = 30.0) -> bool:
    """Wait until a port is open; False when ``alive`` turns false or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and alive():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """A lock that is released with this process, however it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Delete the folders of measurements that were killed."""
    for path in folder.glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            with _held(path):
                shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:  # of another user, or in use
            continue


def _raise_limit() -> None:
    """Many connections need many descriptors; children inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
