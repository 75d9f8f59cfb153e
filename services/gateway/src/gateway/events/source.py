"""The records of ``delivery.events`` from a position on, without a consumer group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluice.bus.client import partitions_of, position
from sluice.bus.connect import connected, stop_client
from sluice.bus.connection import KafkaConnection
from sluice.bus.reader import create_reader
from sluice.bus.topics import Topic

_POLL_TIMEOUT_MS = 200
_MAX_RECORDS = 2_000  # parsed at once


class RawEvent(Protocol):
    """A record as it was read."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...


class Reading(Protocol):
    """The topic, being read. ``begins``: the offset in each partition from which it is read."""

    begins: tuple[int, ...]

    def batches(self) -> AsyncIterator[Sequence[RawEvent]]:
        """Records as they come; empty batches while there are none."""
        ...

    def has_caught_up(self, position: tuple[int, ...]) -> bool:
        """Whether everything that the topic contained at the beginning lies before a position."""
        ...


class EventSource(Protocol):
    """Where a feed reads events."""

    def open(self, begin: tuple[int, ...], backlog: int) -> AbstractAsyncContextManager[Reading]:
        """Read from ``begin``, or, without one, the last ``backlog`` records and what follows.

        Raises:
            KafkaError: the broker does not answer.
        """
        ...


class KafkaEventSource:
    """The topic on the bus."""

    def __init__(self, kafka: KafkaConnection, topic: str = Topic.EVENTS.value) -> None:
        self._kafka = kafka
        self._topic = topic

    @asynccontextmanager
    async def open(self, begin: tuple[int, ...], backlog: int) -> AsyncIterator[Reading]:
        """See :class:`EventSource`."""
        reader = await connected(
            self._kafka, lambda: create_reader(self._kafka, fetch_max_wait_ms=_POLL_TIMEOUT_MS), client="event-feed"
        )
        try:
            yield await _KafkaReading.begin(reader, self._topic, begin, backlog)
        finally:
            await stop_client(reader)


class _KafkaReading:
    def __init__(self, reader: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        self._reader = reader
        self._partitions = partitions
        self._ends: dict[TopicPartition, int] = {}
        self.begins: tuple[int, ...] = ()

    @classmethod
    async def begin(cls, reader: AIOKafkaConsumer, topic: str, begin: tuple[int, ...], backlog: int) -> _KafkaReading:
        partitions = await partitions_of(reader, topic)
        reading = cls(reader, partitions)
        reader.assign(partitions)
        firsts, reading._ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
        share = max(1, backlog // len(partitions))
        wanted = begin if len(begin) == len(partitions) else ()
        offsets = []
        for index, partition in enumerate(partitions):
            first, end = firsts[partition], reading._ends[partition]
            offset = wanted[index] if wanted else end - share
            # Outside of what the topic has it was recreated, or has lost records: the newest ones are read.
            offsets.append(offset if first <= offset <= end else max(first, end - share))
            reader.seek(partition, offsets[-1])
        reading.begins = tuple(offsets)
        return reading

    async def batches(self) -> AsyncIterator[Sequence[RawEvent]]:
        while True:
            found = await self._reader.getmany(timeout_ms=_POLL_TIMEOUT_MS, max_records=_MAX_RECORDS)
            yield [record for records in found.values() for record in records]

    def has_caught_up(self, position_: tuple[int, ...]) -> bool:
        # Markers of transactions have offsets, too: the client reads over them.
        return all(
            max(reached, position(self._reader, partition) or 0) >= self._ends[partition]
            for reached, partition in zip(position_, self._partitions, strict=True)
        )
