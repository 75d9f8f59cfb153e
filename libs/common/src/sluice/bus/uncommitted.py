"""What consumer groups have not committed: offsets, and the first record of each partition."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from sluice.bus.client import position
from sluice.bus.connect import stop_client
from sluice.bus.connection import KafkaConnection
from sluice.bus.reader import create_reader
from sluice.bus.topic_admin import open_admin
from sluice.bus.topics import FROM_LATEST, SUBSCRIPTIONS, Group

_READ_TIMEOUT = 5.0  # seconds

Ranges = Mapping[TopicPartition, tuple[int, int]]
"""By partition, the first uncommitted offset and the end; only partitions in which they differ."""


async def read_ranges(kafka: KafkaConnection, groups: Iterable[Group]) -> dict[Group, Ranges]:
    """The uncommitted offsets of each group.

    Raises:
        KafkaError: the broker does not respond.
    """
    committed: dict[Group, dict[TopicPartition, int]] = {}
    async with open_admin(kafka) as admin:
        for group in groups:
            offsets = await admin.list_consumer_group_offsets(group.value)
            committed[group] = {tp: at.offset for tp, at in offsets.items() if at.offset >= 0}
        topics = sorted({topic.value for group in committed for topic in SUBSCRIPTIONS[group]})
        described = await admin.describe_topics(topics)
    partitions = [
        TopicPartition(topic["topic"], one["partition"]) for topic in described for one in topic["partitions"]
    ]
    async with _open_reader(kafka) as reader:
        ends = await reader.end_offsets(partitions)
        begins = await reader.beginning_offsets(partitions)
    return {group: _ranges(group, offsets, begins, ends) for group, offsets in committed.items()}


def _ranges(
    group: Group,
    committed: Mapping[TopicPartition, int],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> Ranges:
    found = {}
    for tp, end in ends.items():
        if tp.topic not in SUBSCRIPTIONS[group]:
            continue
        first = committed.get(tp, end if group in FROM_LATEST else -1)
        # A committed offset beyond the end belongs to a topic that was recreated: the group reads from the beginning.
        if first < begins[tp] or first > end:
            first = begins[tp]
        if first < end:
            found[tp] = (first, end)
    return found


async def read_first_records(kafka: KafkaConnection, ranges: Ranges) -> dict[TopicPartition, ConsumerRecord]:
    """The first record of each range; none where only control records of transactions are left.

    Raises:
        KafkaError: the broker does not respond within five seconds.
    """
    found: dict[TopicPartition, ConsumerRecord] = {}
    missing = set(ranges)
    if not missing:
        return found
    deadline = time.monotonic() + _READ_TIMEOUT
    async with _open_reader(kafka) as reader:
        while missing:
            reader.assign(missing)
            for tp in missing:
                reader.seek(tp, ranges[tp][0])
            for tp, records in (await reader.getmany(timeout_ms=500, max_records=len(missing))).items():
                found[tp] = records[0]
            missing -= {tp for tp in missing if tp in found or (position(reader, tp) or 0) >= ranges[tp][1]}
            if missing and time.monotonic() > deadline:
                raise KafkaError(f"the first uncommitted records could not be read within {_READ_TIMEOUT:.0f} s")
    return found


def age_of(records: Iterable[ConsumerRecord]) -> float | None:
    """Seconds since the oldest of the records was written; None for none."""
    written = min((record.timestamp for record in records), default=None)
    return None if written is None else max(0.0, time.time() - written / 1000)


@asynccontextmanager
async def _open_reader(kafka: KafkaConnection) -> AsyncIterator[AIOKafkaConsumer]:
    reader = create_reader(kafka, max_partition_fetch_bytes=16 * 1024, request_timeout_ms=10_000)
    try:
        await reader.start()
        yield reader
    finally:
        await stop_client(reader)
