"""Progress of the dispatch queue: the enqueue time of the oldest record that its consumer groups have not committed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from sluice.bus.client import position
from sluice.bus.connection import KafkaConnection
from sluice.bus.messages import Assignment, DeliveryTask
from sluice.bus.reader import create_reader
from sluice.bus.topic_admin import open_admin
from sluice.bus.topics import Group, Topic, delivery_topic
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now

_READ_TIMEOUT = 5.0  # seconds


class QueueProgress:
    """Reads the committed offsets of the router and the workers, and the records at them."""

    READERS: Mapping[Topic, Group] = {
        Topic.ACCEPTED: Group.ROUTER,
        Topic.REROUTE: Group.ROUTER,
        Topic.EMAIL: Group.EMAIL_WORKER,
        Topic.SMS: Group.SMS_WORKER,
        Topic.WHATSAPP: Group.SMS_WORKER,
        Topic.TELEGRAM: Group.SMS_WORKER,
        Topic.SIGNAL: Group.SMS_WORKER,
        Topic.PUSH: Group.PUSH_WORKER,
    }

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka

    async def low_watermarks(self) -> dict[Channel, datetime]:
        """By channel, the enqueue time of the oldest uncommitted record; the current time if its queue is empty.

        The dispatch queue of a channel consists of the shared topics and the channel's own: one whose workers are down
        holds back no other.

        Raises:
            KafkaError: the broker does not respond; the progress is unknown.
        """
        now = utc_now()
        uncommitted = await self._uncommitted()
        enqueued = await self._enqueued_at(uncommitted) if uncommitted else {}
        return {
            channel: min(
                (
                    at
                    for tp, at in enqueued.items()
                    if tp.topic in (Topic.ACCEPTED, Topic.REROUTE, delivery_topic(channel))
                ),
                default=now,
            )
            for channel in Channel
        }

    async def _uncommitted(self) -> dict[TopicPartition, tuple[int, int]]:
        """The first uncommitted offset and the end of each partition in which they differ."""
        committed: dict[TopicPartition, int] = {}
        async with open_admin(self._kafka) as admin:
            for group in set(self.READERS.values()):
                offsets = await admin.list_consumer_group_offsets(group.value)
                topics = {topic for topic, reader in self.READERS.items() if reader is group}
                committed |= {tp: at.offset for tp, at in offsets.items() if tp.topic in topics and at.offset >= 0}
            described = await admin.describe_topics([topic.value for topic in self.READERS])
        partitions = [
            TopicPartition(topic["topic"], one["partition"]) for topic in described for one in topic["partitions"]
        ]
        async with self._reader() as reader:
            ends = await reader.end_offsets(partitions)
            begins = await reader.beginning_offsets(partitions)
        # A committed offset beyond the end belongs to a topic that was recreated: its group reads from the beginning.
        first = {
            tp: begins[tp] if committed.get(tp, -1) < begins[tp] or committed[tp] > ends[tp] else committed[tp]
            for tp in partitions
        }
        return {tp: (offset, ends[tp]) for tp, offset in first.items() if offset < ends[tp]}

    async def _enqueued_at(
        self, uncommitted: Mapping[TopicPartition, tuple[int, int]]
    ) -> dict[TopicPartition, datetime]:
        """Of the first uncommitted record of each partition; none if only control records of transactions are left."""
        found: dict[TopicPartition, datetime] = {}
        missing = set(uncommitted)
        deadline = time.monotonic() + _READ_TIMEOUT
        async with self._reader() as reader:
            while missing:
                reader.assign(missing)
                for tp in missing:
                    reader.seek(tp, uncommitted[tp][0])
                for tp, records in (await reader.getmany(timeout_ms=500, max_records=len(missing))).items():
                    found[tp] = _enqueue_time(records[0])
                missing -= {tp for tp in missing if tp in found or (position(reader, tp) or 0) >= uncommitted[tp][1]}
                if missing and time.monotonic() > deadline:
                    raise KafkaError(f"the first uncommitted records could not be read within {_READ_TIMEOUT:.0f} s")
        return found

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        reader = create_reader(self._kafka, max_partition_fetch_bytes=16 * 1024, request_timeout_ms=10_000)
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()


def _enqueue_time(record: Any) -> datetime:
    """Of the record's delivery task; of an unreadable record, the time at which it was written."""
    for kind in (Assignment, DeliveryTask):
        try:
            read = kind.model_validate_json(record.value)
        except ValidationError:
            continue
        return read.task.enqueued_at if isinstance(read, Assignment) else read.enqueued_at
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)
