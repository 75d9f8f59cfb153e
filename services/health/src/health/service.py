"""Consumes ``delivery.events``, publishes ``provider.health``, and keeps snapshots in Redis.

Of several processes one leads and does all of this; the others stand by (docs/decisions/0076).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import structlog
from aiokafka.errors import KafkaError
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.typing import FieldT

from sluice.bus.client import SESSION_TIMEOUT_MS
from sluice.bus.messages import AttemptReport
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Topic
from sluice.health.monitor import HealthMonitor
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now

log = structlog.get_logger()

_EVALUATION_INTERVAL = 1.0  # seconds; for statuses that change by time alone
_SNAPSHOT_INTERVAL = 2.0  # seconds
_SNAPSHOT_BATCH = 500  # providers in one snapshot; the others follow in the next
_SNAPSHOT_TTL = 3600  # seconds
_REBALANCE = 5.0  # seconds that a leader keeps its evidence while the group distributes its partitions
_TAKEOVER = SESSION_TIMEOUT_MS / 2000  # seconds for the evidence of the last leader: there is no heartbeat meanwhile
_SNAPSHOT_KEY = "sluice:health:providers"  # a hash: the statistics of each provider by its id

REMEMBERED = timedelta(minutes=5)
"""How far back attempts are read without a snapshot: after ten half-lives nothing is left of their weight."""

_UNREAD = timedelta(seconds=1)  # from the time of a record until it is read; attempts of this time are counted twice

Rewind: TypeAlias = Callable[[timedelta], Awaitable[None]]
"""Reads the records of so long ago again."""


class HealthService:
    """The monitor with its surroundings: events in, statuses and snapshots out."""

    def __init__(self, monitor: HealthMonitor, publisher: Publisher, redis: Redis | None) -> None:
        self._monitor = monitor
        self._publisher = publisher
        self._redis = redis
        self._leads = False
        self._led_until = -math.inf  # monotonic

    async def lead(self, rewind: Rewind) -> None:
        """Evaluate and publish from now on, with the evidence of the last snapshot.

        ``rewind`` makes the attempts since the snapshot be read again, and without one all whose weight still counts.
        Where Redis or Kafka does not answer in time, the evidence begins with the next attempts.
        A rebalance that the leader survives changes nothing.
        """
        if time.monotonic() - self._led_until > _REBALANCE:
            self._monitor.clear()
            try:
                async with asyncio.timeout(_TAKEOVER):
                    saved_at = await self.restore()
                    await rewind(REMEMBERED if saved_at is None else min(REMEMBERED, utc_now() - saved_at + _UNREAD))
            except (KafkaError, TimeoutError) as error:
                # New attempts are evidence all the same.
                log.warning("attempts_not_read_again", error=type(error).__name__)
            metrics.HEALTH_LEADER.set(1)
            log.info("health_leads", providers=len(self._monitor))
        self._leads = True

    def pause(self) -> None:
        """Publish nothing until :meth:`lead` or :meth:`stand_by`: the group is distributing its partitions."""
        if self._leads:
            self._leads, self._led_until = False, time.monotonic()

    def stand_by(self) -> None:
        """Another process leads: what this one knows of the providers is out of date from now on."""
        self._leads, self._led_until = False, -math.inf
        self._monitor.clear()
        metrics.HEALTH_LEADER.set(0)
        log.info("health_stands_by")

    def on_events(self, values: Sequence[bytes]) -> None:
        """Record the attempts of a batch of events and publish what changed; unreadable values are ignored."""
        assert failpoints.hit("health.received")
        self._monitor.record_attempts((event for value in values if (event := _parse(value)) is not None), utc_now())
        self._publish_changes()

    async def publish_loop(self) -> None:
        """Publish statuses that time has changed, for ever."""
        while True:
            self._publish_changes()
            await asyncio.sleep(_EVALUATION_INTERVAL)

    def _publish_changes(self) -> None:
        if not self._leads:
            return
        for health in self._monitor.changed_statuses(utc_now()):
            assert failpoints.hit("health.before_publish")
            self._publisher.publish(Topic.HEALTH, health.provider_id.bytes, health.encode())
            assert failpoints.hit("health.published")

    async def snapshot_loop(self) -> None:
        """Write snapshots for ever; without Redis there are none, and a new leader reads the last attempts again."""
        while True:
            await asyncio.sleep(_SNAPSHOT_INTERVAL)
            if self._leads and self._redis is not None:
                assert failpoints.hit("health.before_snapshot")
                await self.snapshot(self._redis)

    async def snapshot(self, redis: Redis) -> None:
        """Write the changed statistics; all if Redis has lost its copy, and again those that it did not take."""
        changes = self._monitor.pending_snapshots(_SNAPSHOT_BATCH)
        written: dict[FieldT, bytes] = {str(key): value for key, value in changes.items() if value is not None}
        deleted = [str(key) for key, value in changes.items() if value is None]
        pipeline = redis.pipeline(transaction=False)
        pipeline.expire(_SNAPSHOT_KEY, _SNAPSHOT_TTL)
        if written:
            pipeline.hset(_SNAPSHOT_KEY, mapping=written)
        if deleted:
            pipeline.hdel(_SNAPSHOT_KEY, *deleted)
        try:
            existed, *_ = await pipeline.execute()
        except (RedisError, OSError, TimeoutError):
            self._monitor.restore_pending(changes)
            return
        if not existed:
            self._monitor.mark_all_dirty()

    async def restore(self) -> datetime | None:
        """Restore the statistics of the last snapshot, if there is one; delete those that cannot be read.

        Returns when the last attempt in it was read.
        """
        if self._redis is None:
            return None
        try:
            kept = {key: value async for key, value in self._redis.hscan_iter(_SNAPSHOT_KEY, count=100)}
            unusable = self._monitor.restore(kept, utc_now())
            if unusable:
                log.warning("snapshot_unusable", providers=len(unusable))
                await self._redis.hdel(_SNAPSHOT_KEY, *unusable)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("snapshot_unavailable", error=type(error).__name__)
            return None
        return self._monitor.newest_attempt()


def _parse(value: bytes) -> AttemptReport | None:
    try:
        return AttemptReport.model_validate_json(value)
    except ValidationError:
        return None  # no attempt: a rejected request, or an event of a newer version
