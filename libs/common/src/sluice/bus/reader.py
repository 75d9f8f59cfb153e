"""Reading without a consumer group: no partition assignment by the broker, no commits."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

from sluice.bus.client import ISOLATION_LEVEL
from sluice.bus.connection import KafkaConnection


def create_reader(kafka: KafkaConnection, **options: int) -> AIOKafkaConsumer:
    """A client, not started, that reads assigned partitions from their beginning; ``options`` are aiokafka's."""
    return AIOKafkaConsumer(
        **kafka.options(),
        group_id=None,
        isolation_level=ISOLATION_LEVEL,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **options,
    )
