"""Fakes of the bus, of records, of settlement and of transports."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.auth import api_keys, sessions
from gateway.ingest import ingest
from sluice.bus.publisher import PublishResult


def with_a_patient_gateway(monkeypatch):
    """Let the gateway wait a minute for the database before it answers 503: a busy machine makes it slow."""
    for module in (api_keys, ingest, sessions):
        monkeypatch.setattr(module, "_DB_TIMEOUT", 60.0)


class FakePublisher:
    """Records what is published; fails everything while it is ``unavailable``."""

    def __init__(self):
        self.published = []
        self.results = []  # of the same, with their keys and headers
        self.unavailable = False

    def publish(self, topic, key, value, headers=None):
        result = PublishResult(topic, key, value, list((headers or {}).items()))
        if not self.unavailable:
            self.published.append((str(topic), value))
            self.results.append(result)
        result.resolve("no broker" if self.unavailable else None)
        return result

    def on(self, topic):
        """The values on a topic, in order."""
        return [value for name, value in self.published if name == topic]


class FakeEventSource:
    """A topic with two partitions in memory; a test puts batches of records."""

    def __init__(self, begins=(0, 0)):
        self.begins = begins
        self.opened = 0
        self.fault = None
        self._batches = asyncio.Queue()

    def put(self, *records):
        self._batches.put_nowait(records)

    @asynccontextmanager
    async def open(self, begin, backlog):
        self.opened += 1
        if self.fault is not None:
            raise self.fault
        yield self

    async def batches(self):
        yield ()
        while True:
            yield await self._batches.get()

    def has_caught_up(self, position):
        return True


@dataclass(eq=False)
class FakeRecord:
    """A record without a consumer."""

    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = "test"
    partition: int = 0
    offset: int = 0
    key: bytes | None = None
    timestamp: int = 1_000
    owned: bool = True
    acked: bool = False
    ack_count: int = field(default=0)

    def ack(self):
        self.acked = True
        self.ack_count += 1


class FakeSettlementWriter:
    """Records settlements; each one's result is ``applied``, or ``fault`` is raised."""

    def __init__(self):
        self.settled = []
        self.applied = True
        self.fault = None

    def settle(self, settlement):
        result = asyncio.get_running_loop().create_future()
        result.add_done_callback(lambda done: done.exception())
        if self.fault:
            result.set_exception(self.fault)
        else:
            self.settled.append(settlement)
            result.set_result(self.applied)
        return result

    @property
    def kinds(self):
        return [settlement.resolution.transition.type for settlement in self.settled]


class FakeTransport:
    """Records requests and responds with ``response`` once ``gate`` is open; raises it if it is an exception.

    As every transport, it says that a step begins: one of ``limit`` seconds at most.
    """

    limit = 60.0

    def __init__(self, response):
        self.response = response
        self.requests = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def exchange(self, request, *, deadline, on_progress):
        on_progress(self.limit)
        self.requests.append(request)
        await self.gate.wait()
        if isinstance(self.response, Exception):
            raise self.response
        return self.response


class SlowBody:
    """A body of which the second part comes when :attr:`ends` is set."""

    def __init__(self, begin, end=b""):
        self.begin, self.end = begin, end
        self.is_read, self.ends = asyncio.Event(), asyncio.Event()

    async def __aiter__(self):
        self.is_read.set()
        yield self.begin
        await self.ends.wait()
        yield self.end
