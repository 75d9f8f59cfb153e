"""The newest events of all projects, read from the bus once per gateway, for any number of streams.

A bounded window of entries is in memory. Each stream reads it at its own pace; one that the window has overtaken is
ended. A position is the offset of the next record in each partition: it means the same in every gateway, and a stream
that comes back with one gets what it has missed, as far as the window reaches.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import structlog
from aiokafka.errors import KafkaError

from gateway.errors import TooManyRequests, Unavailable
from gateway.events.source import EventSource, RawEvent
from sluice.runtime import metrics

log = structlog.get_logger()

WINDOW = 20_000  # entries
_MAX_STREAMS = 1_000  # of one gateway
_MAX_STREAMS_PER_PROJECT = 50
_IDLE_TIMEOUT = 300.0  # seconds without a stream after which the bus is not read any more
_READY_TIMEOUT = 5.0  # seconds for the window to be filled
_RETRY_DELAY = 1.0  # seconds

Position = tuple[int, ...]
"""The offset of the next record in each partition."""


@dataclass(slots=True)
class Entry:
    """An event in the window. ``sandbox``: of its message; None until it is known, and of an event without one."""

    number: int
    partition: int
    offset: int
    project_id: UUID
    delivery_id: UUID | None
    fields: Mapping[str, Any]
    sandbox: bool | None = None


class Batch(NamedTuple):
    """The next entries of a stream, and the position behind each."""

    entries: Sequence[Entry]
    positions: Sequence[Position]


class OvertakenError(Exception):
    """The window does not contain the next entry of a stream any more."""


class EventFeed:
    """The window, and the streams that read it."""

    def __init__(self, source: EventSource, *, window: int = WINDOW) -> None:
        self._source = source
        self._window = window
        self._entries: deque[Entry] = deque()
        self._by_project: dict[UUID, deque[Entry]] = {}
        self._last_dropped: dict[UUID, int] = {}  # of each project with entries, the number of its newest dropped one
        self._first: Position = ()  # of the window
        self._next: Position = ()  # behind it
        self._number = 0
        self._streams: Counter[UUID] = Counter()
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self._closed = False

    async def run(self) -> None:
        """Read the bus while there are streams, until cancelled; then end all streams."""
        try:
            while True:
                await self._wanted.wait()
                try:
                    await self._read()
                except (KafkaError, OSError) as error:
                    log.warning("event_feed_lost", error=type(error).__name__)
                    await asyncio.sleep(_RETRY_DELAY)
        finally:
            self._closed = True
            self._notify()

    async def _read(self) -> None:
        used_at = time.monotonic()
        async with self._source.open(self._next, self._window) as reading:
            if len(self._next) != len(reading.begins):
                self._clear()
                self._first = self._next = reading.begins
            async for records in reading.batches():
                self.add(records)
                if reading.has_caught_up(self._next):
                    self._ready.set()
                if self._streams.total():
                    used_at = time.monotonic()
                elif time.monotonic() - used_at > _IDLE_TIMEOUT:
                    break
        self._wanted.clear()
        self._ready.clear()
        self._clear()

    def _clear(self) -> None:
        self._entries.clear()
        self._by_project.clear()
        self._last_dropped.clear()
        self._first = self._next = ()

    def add(self, records: Sequence[RawEvent]) -> None:
        """Add records in the order of their partitions; what is no event of a project is passed over."""
        offsets = list(self._next)
        for record in records:
            offsets[record.partition] = record.offset + 1
            entry = self._entry(record)
            if entry is not None:
                self._entries.append(entry)
                self._by_project.setdefault(entry.project_id, deque()).append(entry)
        self._next = tuple(offsets)
        while len(self._entries) > self._window:
            self._drop()
        if records:
            self._notify()

    def _entry(self, record: RawEvent) -> Entry | None:
        try:
            fields = orjson.loads(record.value or b"")
            project_id = UUID(fields["project_id"])
            delivery = fields.get("delivery_id")
            delivery_id = None if delivery is None else UUID(delivery)
            sandbox = fields.get("sandbox")
            if not isinstance(fields["type"], str) or not (sandbox is None or isinstance(sandbox, bool)):
                return None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # the event-worker dead-letters it
        self._number += 1
        return Entry(self._number, record.partition, record.offset, project_id, delivery_id, fields, sandbox)

    def _drop(self) -> None:
        entry = self._entries.popleft()
        first = list(self._first)
        first[entry.partition] = entry.offset + 1
        self._first = tuple(first)
        own = self._by_project[entry.project_id]
        own.popleft()
        self._last_dropped[entry.project_id] = entry.number
        if not own and not self._streams[entry.project_id]:
            del self._by_project[entry.project_id], self._last_dropped[entry.project_id]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- streams ---------------------------------------------------------------------------------------------------

    async def subscribe(self, project_id: UUID, position: Position | None) -> EventStream:
        """A stream of the project's events from ``position``, or from now on; closed by its owner.

        Raises:
            TooManyRequests: the project, or this gateway, has too many streams.
            Unavailable: the bus does not answer.
        """
        if self._streams[project_id] >= _MAX_STREAMS_PER_PROJECT or self._streams.total() >= _MAX_STREAMS:
            raise TooManyRequests("Too many event streams are open. Retry after the delay in Retry-After.")
        self._streams[project_id] += 1
        metrics.EVENT_STREAMS.set(self._streams.total())
        self._wanted.set()
        try:
            async with asyncio.timeout(_READY_TIMEOUT):
                await self._ready.wait()
        except BaseException as error:
            self.release(project_id)
            if isinstance(error, TimeoutError):
                raise Unavailable("The bus is unavailable. Retry later.") from None
            raise
        return EventStream(self, project_id, position)

    def release(self, project_id: UUID) -> None:
        """A stream of the project has ended."""
        self._streams[project_id] -= 1
        if not self._streams[project_id]:
            del self._streams[project_id]
            if not self._by_project.get(project_id):
                self._by_project.pop(project_id, None)
                self._last_dropped.pop(project_id, None)
        metrics.EVENT_STREAMS.set(self._streams.total())

    def reaches(self, position: Position) -> bool:
        """Whether the window has everything from a position on."""
        return len(position) == len(self._first) and all(
            first <= wanted <= following
            for wanted, first, following in zip(position, self._first, self._next, strict=True)
        )

    def after(self, project_id: UUID, number: int, limit: int) -> list[Entry]:
        """Up to ``limit`` entries of the project behind a number.

        Raises:
            OvertakenError: entries behind the number were dropped.
        """
        if self.last_dropped(project_id) > number:
            raise OvertakenError
        own = self._by_project.get(project_id)
        if not own or own[-1].number <= number:
            return []
        return [entry for entry in own if entry.number > number][:limit]

    def last_dropped(self, project_id: UUID) -> int:
        """The number of the project's newest entry that the window does not contain any more; 0 for none."""
        return self._last_dropped.get(project_id, 0)

    @property
    def last_number(self) -> int:
        """The number of the newest entry."""
        return self._number

    @property
    def next_position(self) -> Position:
        """The position behind the window."""
        return self._next

    @property
    def is_closed(self) -> bool:
        """Whether all streams end."""
        return self._closed

    async def wait(self, within: float) -> None:
        """Return when the window has changed, or after ``within`` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), within)


class EventStream:
    """One reader of the window. ``missed``: whether it begins later than it should."""

    def __init__(self, feed: EventFeed, project_id: UUID, position: Position | None) -> None:
        self._feed = feed
        self.project_id = project_id
        self.missed = position is not None and not feed.reaches(position)
        self._sent: Position = ()  # before it, other partitions may have entries that were sent already
        if position is None or self.missed:
            self._position, self._number = feed.next_position, feed.last_number
        else:
            self._position, self._number = position, feed.last_dropped(project_id)
            self._sent = position

    def next_batch(self, limit: int = 100) -> Batch:
        """The entries that have come since the last one, up to ``limit``.

        Raises:
            OvertakenError: the stream was too slow.
        """
        found = self._feed.after(self.project_id, self._number, limit)
        entries, positions = [], []
        offsets = list(self._position)
        for entry in found:
            self._number = entry.number
            if self._sent and entry.offset < self._sent[entry.partition]:
                continue
            offsets[entry.partition] = max(offsets[entry.partition], entry.offset + 1)
            entries.append(entry)
            positions.append(tuple(offsets))
        if len(found) < limit:  # everything before the end of the window was read
            offsets = list(self._feed.next_position)
        self._position = tuple(offsets)
        return Batch(entries, positions)

    @property
    def position(self) -> Position:
        """Behind what was read."""
        return self._position

    async def wait(self, within: float) -> None:
        """Return when there may be entries, or after ``within`` seconds."""
        await self._feed.wait(within)

    @property
    def is_closed(self) -> bool:
        """Whether the gateway ends its streams."""
        return self._feed.is_closed

    def close(self) -> None:
        """The stream has ended."""
        self._feed.release(self.project_id)
