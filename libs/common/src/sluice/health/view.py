"""The newest health status of every provider, read from the compacted topic into memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from sluice.bus.connect import connected, stop_client
from sluice.bus.connection import KafkaConnection
from sluice.bus.messages import ProviderHealth
from sluice.bus.reader import create_reader
from sluice.bus.topics import Topic
from sluice.runtime.tasks import cancel_and_wait, supervised

log = structlog.get_logger()

_RETRY_DELAY = 1.0  # seconds before the next connection after one was lost


class HealthView:
    """The statuses that the health service published last; a provider without one counts as healthy."""

    def __init__(self) -> None:
        self.statuses: dict[UUID, ProviderHealth] = {}

    @asynccontextmanager
    async def subscribed(self, kafka: KafkaConnection) -> AsyncIterator[HealthView]:
        """Read the topic from its beginning and follow it until the block ends.

        Routing does not wait for it: without statuses the priorities alone decide, as at a cold start.
        """
        follower = supervised(self._follow(kafka), name="health-view")
        try:
            yield self
        finally:
            await cancel_and_wait(follower)

    async def _follow(self, kafka: KafkaConnection) -> None:
        while True:
            reader = await connected(kafka, lambda: create_reader(kafka), client="health-view")
            try:
                partitions = [TopicPartition(Topic.HEALTH.value, 0)]  # one partition, so that its order is total
                reader.assign(partitions)
                await reader.seek_to_beginning(*partitions)
                async for record in reader:
                    self._apply(record.key, record.value)
            except (KafkaError, OSError) as error:
                log.warning("health_view_lost", error=type(error).__name__)
            finally:
                await stop_client(reader)
            await asyncio.sleep(_RETRY_DELAY)

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        try:
            if value is None:
                self.statuses.pop(UUID(bytes=key or b""), None)
                return
            health = ProviderHealth.model_validate_json(value)
        except (ValidationError, ValueError):
            log.warning("health_record_unreadable")
            return
        self.statuses[health.provider_id] = health
