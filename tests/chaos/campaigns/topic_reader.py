"""Reads whole topics of a running system."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluice.bus.connection import KafkaConnection
from sluice.bus.topic_admin import read_topic_specs
from sluice.bus.topics import Topic
from tests.chaos.cluster import Cluster


class TopicReader:
    """``async with TopicReader(cluster, topics) as reader``: what was published to the topics between two moments."""

    def __init__(self, cluster: Cluster, topics: Sequence[Topic]) -> None:
        specs = read_topic_specs()
        self._partitions = [
            TopicPartition(topic.value, number) for topic in topics for number in range(specs[topic.value].partitions)
        ]
        self._consumer: Any = AIOKafkaConsumer(
            **KafkaConnection.to(cluster.kafka).options(), group_id=None, auto_offset_reset="earliest"
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def ends(self) -> dict[TopicPartition, int]:
        """The end of every partition."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(self._partitions)
        return found

    async def read(self, starts: Mapping[TopicPartition, int]) -> list[tuple[str, bytes]]:
        """Topic and value of every record from ``starts`` to the ends of now."""
        ends = await self._consumer.end_offsets(list(starts))
        found: list[tuple[str, bytes]] = []
        for partition, end in ends.items():
            self._consumer.assign([partition])
            self._consumer.seek(partition, starts[partition])
            while await self._consumer.position(partition) < end:
                for one in (await self._consumer.getmany(partition, timeout_ms=1000)).get(partition, []):
                    found.append((partition.topic, one.value))
        return found
