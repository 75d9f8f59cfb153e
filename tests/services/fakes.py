"""Stand-ins at the edges: a bus that remembers, records without a broker, a wire that answers as told."""

import asyncio
from dataclasses import dataclass, field

from sluice.bus.publisher import Publication


class FakePublisher:
    """Takes everything, or nothing while it is ``away``; remembers what it took."""

    def __init__(self):
        self.taken = []
        self.away = False

    def publish(self, topic, key, value, headers=None):
        publication = Publication(topic, key, value, [])
        if not self.away:
            self.taken.append((str(topic), value))
        publication.end("no broker" if self.away else None)
        return publication

    def on(self, topic):
        """The values on a topic, in order."""
        return [value for name, value in self.taken if name == topic]


@dataclass(eq=False)
class FakeRecord:
    """A record as the consumer hands it over."""

    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = "test"
    partition: int = 0
    offset: int = 0
    key: bytes | None = None
    timestamp: int = 1_000
    alive: bool = True
    finished: bool = False
    times_done: int = field(default=0)

    def done(self):
        self.finished = True
        self.times_done += 1


class FakeSettler:
    """Remembers conclusions; says that they were applied unless told otherwise."""

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
        return [settlement.conclusion.step.kind for settlement in self.settled]


class FakeWire:
    """The far end: answers what it is told to, when it is let, and remembers what it heard."""

    def __init__(self, answer):
        self.answer = answer
        self.heard = []
        self.open = asyncio.Event()
        self.open.set()

    async def exchange(self, request, *, deadline):
        self.heard.append(request)
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
