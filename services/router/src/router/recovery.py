"""Nothing stands still: what is due and not on the conveyor is driven again.

One loop is the outbox relay, the retry scheduler, the scheduled send, the crash recovery, and the recovery from a
wiped Kafka. Any number of routers may run it: rows are taken with SKIP LOCKED, and every step is compare-and-set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg
import structlog
from aiokafka.errors import KafkaError
from pydantic import Field

from sluice.bus.messages import DeliveryTask, RetryHandle
from sluice.bus.publisher import Publisher, PublishResult, wait_for_acks
from sluice.bus.topic_admin import QueueProgress
from sluice.bus.topics import Topic
from sluice.delivery.outbox import republish
from sluice.delivery.retry_policy import RetryPolicy, expire, resolve
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.model.message import Channel
from sluice.model.outcome import Unknown
from sluice.providers import registry
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.settings import DispatchSettings
from sluice.store import backlog, ingest, outbox, partitions, recovery
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.recovery import PendingDelivery

log = structlog.get_logger()

_BATCH = 500
_MAX_QUEUES = 200  # looked at at once
_MAX_KEYS = 5_000  # idempotency keys that one look forgets at the most


class RecoverySettings(RetryPolicy, DispatchSettings):
    """Settings of the recovery loop."""

    recovery_interval: float = Field(1.0, gt=0, description="pause between looks for what is due, seconds")
    dispatch_interval: float = Field(
        0.1, gt=0, description="the same while somebody waits for room on the conveyor, seconds"
    )
    partition_maintenance_interval: float = Field(
        3600.0, gt=0, description="pause between looks for missing partitions, seconds"
    )


class Recovery:
    """The loop. ``round`` does one look and can be called by itself in tests."""

    def __init__(
        self,
        *,
        pool: Pool,
        config: ConfigCache,
        publisher: Publisher,
        settlements: SettlementWriter,
        conveyor: QueueProgress,
        settings: RecoverySettings,
    ) -> None:
        self._pool = pool
        self._configuration = config
        self._publisher = publisher
        self._settler = settlements
        self._conveyor = conveyor
        self._settings = settings
        self._cursor: dict[Channel, backlog.ProjectQueue] = {}  # up to whom, where there were too many for one look
        self._maintained_at: datetime | None = None
        self._expired_keys_left = True  # keys that are over may still be there
        self._requeue_after = timedelta(seconds=settings.requeue_after)
        self._maintenance_interval = timedelta(seconds=settings.partition_maintenance_interval)

    async def run(self) -> None:
        """Look, pause, look again, for ever; an outage of Postgres or Kafka is waited out."""
        while True:
            pause = self._settings.recovery_interval
            try:
                if await self.run_once():
                    pause = min(pause, self._settings.dispatch_interval)
            except UNAVAILABLE_ERRORS as error:
                log.warning("recovery_retrying", missing="postgres", error=type(error).__name__)
            except KafkaError as error:
                log.warning("recovery_retrying", missing="kafka", error=type(error).__name__)
            except asyncpg.PostgresError:
                log.exception("recovery_failed")
            await asyncio.sleep(pause)

    async def run_once(self) -> bool:
        """One look at everything that may stand still; true if somebody still waits for room on the conveyor."""
        now = utc_now()
        await self._maintain(now)
        oldest = await recovery.queue_ages(self._pool)
        metrics.OLDEST_DUE_AGE.set(max(0.0, (now - oldest.due_at).total_seconds()) if oldest.due_at else 0.0)
        crowded = False
        if oldest.due_at is not None and oldest.due_at <= now:
            await self._expire_leases(now)
            crowded = await self._dispatch_backlog(now)
        if oldest.enqueued_at is not None and oldest.enqueued_at <= now - self._requeue_after:
            low_watermarks = await self._conveyor.low_watermarks()
            assert failpoints.hit("recovery.low_watermarks")
            await self._requeue_lost(now, low_watermarks)
        await self._republish_overdue(now)
        return crowded

    async def _dispatch_backlog(self, now: datetime) -> bool:
        """Fill the conveyor with what is due; true if there was no room for all of it."""
        room = dict.fromkeys(Channel, self._settings.dispatch_queue_limit)
        for part, held in (await backlog.count_enqueued(self._pool)).items():
            room[part.channel] -= held
        left = [await self._fill_channel(channel, free, now) for channel, free in room.items()]
        return min(left) <= 0

    async def _fill_channel(self, channel: Channel, free: int, now: datetime) -> int:
        """Put what is due on one channel's conveyor, in turns; how much room is left."""
        after = self._cursor.pop(channel, None)
        while free > 0:
            found = await backlog.project_queues(self._pool, channel, now=now, after=after, limit=_MAX_QUEUES)
            shares = backlog.fair_shares(found, min(free, _BATCH))
            due = (
                await backlog.dequeue(self._pool, channel, shares, now=now, requeue_after=self._requeue_after)
                if found
                else []
            )
            assert failpoints.hit("recovery.dequeued")
            if not await self._enqueue_all(due, now):
                break
            free -= len(due)
            after = found[-1] if len(found) == _MAX_QUEUES else None
            if not due and after is None:
                break
        if after is not None:
            self._cursor[channel] = after
        return free

    async def _requeue_lost(self, now: datetime, low_watermarks: Mapping[Channel, datetime]) -> None:
        while True:
            due = await recovery.requeue_lost(
                self._pool, now=now, low_watermarks=low_watermarks, requeue_after=self._requeue_after, limit=_BATCH
            )
            assert failpoints.hit("recovery.requeued")
            if not await self._enqueue_all(due, now) or len(due) < _BATCH:
                return

    async def _enqueue_all(self, due: Sequence[PendingDelivery], now: datetime) -> bool:
        """Publish what was taken; false if Kafka does not take it now, and it falls due again."""
        self._end_expired([pending for pending in due if pending.expires_at <= now], now)
        published = [self._enqueue(pending, now) for pending in due if pending.expires_at > now]
        assert failpoints.hit("recovery.enqueued")
        return await wait_for_acks(published)

    def _enqueue(self, pending: PendingDelivery, now: datetime) -> PublishResult:
        metrics.REQUEUED_DELIVERIES.labels("never_attempted" if pending.attempt_count == 0 else "between_attempts").inc()
        task = task_for(pending, now, idempotent=self._idempotent(pending))
        topic = Topic.ACCEPTED if pending.attempt_count == 0 else Topic.REROUTE
        return self._publisher.publish(topic, None, task.encode())

    async def _expire_leases(self, now: datetime) -> None:
        """A lease without an outcome: the worker died after its claim, so nobody knows whether it had called."""
        for pending in await recovery.expired_leases(self._pool, now=now, limit=_BATCH):
            task = task_for(pending, now, attempt=pending.attempt_count)
            repeat = RetryHandle(
                provider_id=pending.provider_id or SANDBOX_PROVIDER_ID, reference=pending.last_reference or ""
            )
            resolution = resolve(
                task,
                repeat,
                Unknown("the worker was lost before it could report"),
                idempotent=self._idempotent(pending),
                at=now,
                policy=self._settings,
            )
            metrics.REQUEUED_DELIVERIES.labels("lease_expired").inc()
            assert failpoints.hit("recovery.before_lease_expired")
            self._settler.settle(Settlement(task, resolution))

    def _end_expired(self, over: list[PendingDelivery], now: datetime) -> None:
        for pending in over:
            task = task_for(pending, now)
            assert failpoints.hit("recovery.before_expired")
            self._settler.settle(Settlement(task, expire(task, at=now)))

    def _idempotent(self, pending: PendingDelivery) -> bool:
        if pending.provider_id == SANDBOX_PROVIDER_ID:
            return True
        row = self._configuration.providers.get(pending.provider_id) if pending.provider_id else None
        if row is None:
            return False
        try:
            return registry.get_package(row.package).idempotent
        except LookupError:
            return False

    async def _republish_overdue(self, now: datetime) -> None:
        late = await outbox.claim_overdue(self._pool, now=now, retry_after=timedelta(seconds=10), limit=50)
        assert failpoints.hit("recovery.before_republish")
        heard = [number for number in late if await republish(self._pool, self._publisher, number)]
        assert failpoints.hit("recovery.republished")
        if heard:
            await outbox.delete(self._pool, heard)
            assert failpoints.hit("recovery.outbox_deleted")

    async def _maintain(self, now: datetime) -> None:
        """Make the coming weeks' partitions, and forget idempotency keys that are over."""
        if self._maintained_at is None or now - self._maintained_at > self._maintenance_interval:
            assert failpoints.hit("recovery.before_partitions")
            await partitions.ensure(self._pool, now)
            assert failpoints.hit("recovery.partitions_made")
            self._maintained_at, self._expired_keys_left = now, True
        if self._expired_keys_left:
            self._expired_keys_left = (
                await ingest.delete_expired_keys(self._pool, now=now, limit=_MAX_KEYS) == _MAX_KEYS
            )


def task_for(
    pending: PendingDelivery, now: datetime, *, attempt: int | None = None, idempotent: bool = False
) -> DeliveryTask:
    """The drive for a delivery's next attempt (or for the one named), as the record knows it."""
    repeat = None
    if idempotent and pending.last_outcome == "unknown" and pending.provider_id and pending.last_reference:
        repeat = RetryHandle(provider_id=pending.provider_id, reference=pending.last_reference)
    return DeliveryTask(
        delivery_id=pending.id,
        message_id=pending.message_id,
        project_id=pending.project_id,
        channel=pending.channel,
        delivery_class=pending.delivery_class,
        enqueued_at=now,
        expires_at=pending.expires_at,
        attempt=attempt if attempt is not None else pending.attempt_count + 1,
        retry_round=pending.retry_round,
        attempted_providers=pending.attempted_providers,
        unknown_attempts=pending.unknown_attempts,
        preferred_provider_id=pending.preferred_provider_id,
        sandbox=pending.sandbox,
        retry_handle=repeat,
    )
