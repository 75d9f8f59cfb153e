"""The recovery loop: every delivery that is due and not in the dispatch queue is enqueued.

One loop is the retry scheduler, the scheduled send, the recovery from crashes and from lost Kafka data, and the outbox
relay of processes that ended. Any number of routers may run it: rows are claimed with SKIP LOCKED, and every transition
is a compare-and-set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg
import structlog
from aiokafka.errors import KafkaError
from pydantic import Field

from router.suppression import find_suppressed
from router.suspensions import SuspensionWatch
from sluice.bus.messages import DeliveryTask, RetryHandle
from sluice.bus.progress import QueueProgress
from sluice.bus.publisher import Publisher, PublishResult, wait_for_acks
from sluice.bus.topics import Topic
from sluice.delivery.outbox import OUTBOX_RETRY_AFTER, republish
from sluice.delivery.retry_policy import RetryPolicy, expire, resolve, suppress
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.model.destination import destination_of
from sluice.model.message import Channel
from sluice.model.outcome import Scope, Unknown
from sluice.providers import registry
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.routing.selection import Health
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.settings import DispatchSettings
from sluice.store import backlog, ingest, outbox, partitions, recovery
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.recovery import PendingDelivery

log = structlog.get_logger()

_BATCH = 500  # deliveries enqueued by one statement
_MAX_QUEUES = 200  # project queues read by one statement
_MAX_KEYS = 5_000  # idempotency keys deleted in one pass
_MEASURE_INTERVAL = timedelta(seconds=5)  # between measurements of backlog and outbox
_OUTBOX_BATCH = 50  # outbox rows republished in one pass


class RecoverySettings(RetryPolicy, DispatchSettings):
    """Settings of the recovery loop."""

    recovery_interval: float = Field(1.0, gt=0, description="pause between passes, seconds")
    dispatch_interval: float = Field(
        0.1, gt=0, description="pause while the backlog waits for capacity in the dispatch queue, seconds"
    )
    partition_maintenance_interval: float = Field(
        3600.0, gt=0, description="pause between checks for missing table partitions, seconds"
    )


class Recovery:
    """The recovery loop."""

    def __init__(
        self,
        *,
        pool: Pool,
        config: ConfigCache,
        publisher: Publisher,
        settlements: SettlementWriter,
        progress: QueueProgress,
        settings: RecoverySettings,
        health: Health,
    ) -> None:
        self._pool = pool
        self._config = config
        self._publisher = publisher
        self._settlements = settlements
        self._progress = progress
        self._settings = settings
        self._suspensions = SuspensionWatch(config, health)
        self._cursor: dict[Channel, backlog.ProjectQueue] = {}  # the last queue served, if there are more
        self._maintained_at: datetime | None = None
        self._measured_at: datetime | None = None
        self._expired_keys_left = True
        self._requeue_after = timedelta(seconds=settings.requeue_after)
        self._maintenance_interval = timedelta(seconds=settings.partition_maintenance_interval)

    async def run(self) -> None:
        """Run passes forever; while PostgreSQL or Kafka is unavailable, they are retried."""
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
        """One pass; true if a part of the backlog still waits for capacity in the dispatch queue."""
        now = utc_now()
        await self._maintain(now)
        await self._suspensions.run_once(self._pool, now)
        oldest = await recovery.queue_ages(self._pool)
        metrics.OLDEST_DUE_AGE.set(max(0.0, (now - oldest.due_at).total_seconds()) if oldest.due_at else 0.0)
        await self._measure(now)
        more_waiting = False
        if oldest.due_at is not None and oldest.due_at <= now:
            await self._expire_leases(now)
            more_waiting = await self._dispatch_backlog(now)
        if oldest.enqueued_at is not None and oldest.enqueued_at <= now - self._requeue_after:
            low_watermarks = await self._progress.low_watermarks()
            assert failpoints.hit("recovery.low_watermarks")
            await self._requeue_lost(now, low_watermarks)
        await self._republish_overdue(now)
        return more_waiting

    async def _dispatch_backlog(self, now: datetime) -> bool:
        """Enqueue due deliveries up to the dispatch queue limit; true if a channel has reached it."""
        capacity = dict.fromkeys(Channel, self._settings.dispatch_queue_limit)
        for part, enqueued in (await backlog.count_enqueued(self._pool)).items():
            capacity[part.channel] -= enqueued
        left = [await self._fill_channel(channel, free, now) for channel, free in capacity.items()]
        return min(left) <= 0

    async def _fill_channel(self, channel: Channel, free: int, now: datetime) -> int:
        """Enqueue one channel's backlog round-robin by project; returns the capacity that is left."""
        after = self._cursor.pop(channel, None)
        while free > 0:
            queues = await backlog.list_project_queues(self._pool, channel, after=after, limit=_MAX_QUEUES)
            due: list[PendingDelivery] = []
            if queues:
                shares = backlog.fair_shares(queues, min(free, _BATCH))
                due = await backlog.dequeue(self._pool, channel, shares, requeue_after=self._requeue_after)
            assert failpoints.hit("recovery.dequeued")
            if not await self._enqueue_all(due, now):
                break
            free -= len(due)
            after = queues[-1] if len(queues) == _MAX_QUEUES else None
            if not due and after is None:
                break
        if after is not None:
            self._cursor[channel] = after
        return free

    async def _requeue_lost(self, now: datetime, low_watermarks: Mapping[Channel, datetime]) -> None:
        while True:
            due = await recovery.requeue_lost(
                self._pool, low_watermarks=low_watermarks, requeue_after=self._requeue_after, limit=_BATCH
            )
            assert failpoints.hit("recovery.requeued")
            for pending in due:
                reason = "between_attempts" if pending.attempt_count else "never_attempted"
                metrics.series(metrics.REQUEUED_DELIVERIES, reason).inc()
            if not await self._enqueue_all(due, now) or len(due) < _BATCH:
                return

    async def _enqueue_all(self, due: Sequence[PendingDelivery], now: datetime) -> bool:
        """Publish the tasks of dequeued deliveries; false if Kafka has not stored them all, and they fall due again."""
        self._settle_expired([pending for pending in due if pending.expires_at <= now], now)
        alive = await self._settle_suppressed([pending for pending in due if pending.expires_at > now], now)
        published = [self._enqueue(pending, now) for pending in alive]
        assert failpoints.hit("recovery.enqueued")
        return await wait_for_acks(published)

    async def _settle_suppressed(self, due: list[PendingDelivery], now: datetime) -> list[PendingDelivery]:
        """Fail the deliveries whose recipients were suppressed since they were accepted; returns what is to be sent."""
        suppressed = await find_suppressed(self._pool, self._config, due)
        for pending in due:
            if pending.id in suppressed:
                failing_id, detail = suppressed[pending.id]
                task = task_for(replace(pending, id=failing_id), now)
                assert failpoints.hit("recovery.before_suppressed")
                self._settlements.settle(Settlement(task, suppress(task, detail=detail, at=now)))
        return [one for one in due if one.id not in suppressed or suppressed[one.id][0] != one.id]

    def _enqueue(self, pending: PendingDelivery, now: datetime) -> PublishResult:
        first = pending.attempt_count == 0
        task = task_for(pending, now, idempotent=self._idempotent(pending))
        return self._publisher.publish(Topic.ACCEPTED if first else Topic.REROUTE, None, task.encode(), task.headers())

    async def _expire_leases(self, now: datetime) -> None:
        """Settle the attempts of expired leases as unknown: the worker may have called the provider before it ended."""
        for pending in await recovery.list_expired_leases(self._pool, limit=_BATCH):
            task = task_for(pending, now, attempt=pending.attempt_count)
            handle = RetryHandle(
                provider_id=pending.provider_id or SANDBOX_PROVIDER_ID, reference=pending.last_reference or ""
            )
            resolution = resolve(
                task,
                handle,
                Unknown("the worker was lost before it reported an outcome"),
                idempotent=self._idempotent(pending),
                at=now,
                policy=self._settings,
            )
            metrics.series(metrics.REQUEUED_DELIVERIES, "lease_expired").inc()
            assert failpoints.hit("recovery.before_lease_expired")
            # What ended the worker says nothing about the provider.
            lost = resolution.transition._replace(scope=Scope.MESSAGE)
            self._settlements.settle(Settlement(task, resolution._replace(transition=lost)))

    def _settle_expired(self, expired: list[PendingDelivery], now: datetime) -> None:
        for pending in expired:
            task = task_for(pending, now)
            assert failpoints.hit("recovery.before_expired")
            self._settlements.settle(Settlement(task, expire(task, at=now)))

    def _idempotent(self, pending: PendingDelivery) -> bool:
        if pending.provider_id == SANDBOX_PROVIDER_ID:
            return True
        row = self._config.providers.get(pending.provider_id) if pending.provider_id else None
        if row is None:
            return False
        try:
            return registry.get_package(row.package).idempotent
        except LookupError:
            return False

    async def _republish_overdue(self, now: datetime) -> None:
        overdue = await outbox.claim_overdue(self._pool, retry_after=OUTBOX_RETRY_AFTER, limit=_OUTBOX_BATCH)
        assert failpoints.hit("recovery.before_republish")
        acknowledged = [row for row in overdue if await republish(self._pool, self._publisher, row)]
        assert failpoints.hit("recovery.republished")
        if acknowledged:
            await outbox.delete(self._pool, acknowledged)
            assert failpoints.hit("recovery.outbox_deleted")

    async def _maintain(self, now: datetime) -> None:
        """Create the coming weeks' table partitions, and delete expired idempotency keys."""
        if self._maintained_at is None or now - self._maintained_at > self._maintenance_interval:
            assert failpoints.hit("recovery.before_partitions")
            await partitions.ensure(self._pool, now)
            assert failpoints.hit("recovery.partitions_made")
            self._maintained_at, self._expired_keys_left = now, True
        if self._expired_keys_left:
            self._expired_keys_left = (
                await ingest.delete_expired_keys(self._pool, now=now, limit=_MAX_KEYS) == _MAX_KEYS
            )

    async def _measure(self, now: datetime) -> None:
        if self._measured_at is not None and now - self._measured_at < _MEASURE_INTERVAL:
            return
        self._measured_at = now
        due = await backlog.count_due(self._pool)
        for channel in Channel:
            metrics.series(metrics.BACKLOG_SIZE, channel.value).set(due.get(channel, 0))
        metrics.OUTBOX_OLDEST_AGE.set(await outbox.oldest_age(self._pool))


def task_for(
    pending: PendingDelivery, now: datetime, *, attempt: int | None = None, idempotent: bool = False
) -> DeliveryTask:
    """The task for a delivery's next attempt, or for attempt number ``attempt``.

    It carries a retry handle if the last outcome was unknown and its provider is ``idempotent``.
    """
    handle = None
    if idempotent and pending.last_outcome == "unknown" and pending.provider_id and pending.last_reference:
        handle = RetryHandle(provider_id=pending.provider_id, reference=pending.last_reference)
    return DeliveryTask(
        delivery_id=pending.id,
        message_id=pending.message_id,
        project_id=pending.project_id,
        channel=pending.channel,
        delivery_class=pending.delivery_class,
        enqueued_at=pending.enqueued_at or now,
        expires_at=pending.expires_at,
        attempt=attempt if attempt is not None else pending.attempt_count + 1,
        retry_round=pending.retry_round,
        attempted_providers=pending.attempted_providers,
        errors=dict(zip(pending.attempted_providers, pending.errors, strict=True)),
        all_declined=pending.all_declined,
        unknown_attempts=pending.unknown_attempts,
        preferred_provider_id=pending.preferred_provider_id,
        destination=destination_of(pending.channel, pending.recipient),
        sandbox=pending.sandbox,
        retry_handle=handle,
        throttled=pending.throttled,
        not_before=dict(zip(pending.waiting_providers, pending.not_before, strict=True)),
        awaited=pending.awaited,
        traceparent=pending.traceparent,
        segments=pending.segments,
    )
