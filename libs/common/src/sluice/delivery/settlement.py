"""Settlement: writes transitions in batches, publishes their events through the outbox, then the follow-up tasks.

Follow-up tasks need no outbox row: if one is lost, the delivery falls due and is requeued.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from sluice.bus.messages import DeliveryTask
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Topic
from sluice.delivery.outbox import OUTBOX_RETRY_AFTER, OutboxPublisher
from sluice.delivery.retry_policy import Resolution
from sluice.delivery.settled_notices import SettledNotices
from sluice.model.state import SETTLED, STATE_ASSERTED_BY, EventType
from sluice.runtime import failpoints, metrics
from sluice.runtime.batching import Batcher
from sluice.runtime.clock import utc_now
from sluice.store import deliveries, receipts, splitting
from sluice.store.db import UNAVAILABLE_ERRORS, Db, Pool
from sluice.store.deliveries import TransitionResult
from sluice.store.receipts import LateAcceptance
from sluice.store.splitting import Division

log = structlog.get_logger()

_RETRY_DELAY = 0.3  # seconds between tries while PostgreSQL is unavailable


class Settlement(NamedTuple):
    """The resolution of a delivery task."""

    task: DeliveryTask
    resolution: Resolution
    envelope: tuple[str, ...] = ()  # of a divided delivery: the addresses that this resolution is about
    divided: tuple[Settlement, ...] = ()  # for the other addresses; each task has the id of a new delivery


class SettlementWriter:
    """Writes resolutions in batches and publishes their events and tasks, and the notices of awaited messages."""

    def __init__(
        self,
        db: Pool,
        publisher: Publisher,
        *,
        notices: SettledNotices | None = None,
        size: int = 200,
        parallel: int = 2,
    ) -> None:
        self._db = db
        self._publisher = publisher
        self._notices = notices or SettledNotices(None)
        self._outbox = OutboxPublisher(db, publisher)
        self._batcher: Batcher[Settlement, bool] = Batcher(
            self._flush,
            name="settle",
            size=size,
            parallel=parallel,
            # No caller waits for the result. With batches every 2 ms, settling took a tenth of all CPU at half load and
            # doubled the gateway's p99. Attempts that a crash leaves unsettled have an unknown outcome.
            pace=0.020,
            split_on=(asyncpg.DataError, ValueError),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SettlementWriter]:
        """Settle until the block ends; submitted settlements are written and published first."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._outbox.running())
            stack.push_async_callback(self._notices.join)
            await stack.enter_async_context(self._batcher.running())
            yield self

    def settle(self, settlement: Settlement) -> asyncio.Future[bool]:
        """True once it is written; False if another transition came first. Retries while PostgreSQL is unavailable."""
        return self._batcher.submit(settlement)

    async def _flush(self, batch: Sequence[Settlement]) -> list[bool]:
        # A statement updates a row once: a second transition of the same delivery is written by its own statement.
        firsts: dict[UUID, int] = {}
        later: list[int] = []
        for position, settlement in enumerate(batch):
            if firsts.setdefault(settlement.task.delivery_id, position) != position:
                later.append(position)
        results = [False] * len(batch)
        written = [batch[position] for position in firsts.values()]
        # The settlements of new deliveries stand behind those of the batch.
        sequences = await self._write([*written, *(part for one in written for part in one.divided)])
        for position, sequence in zip(firsts.values(), sequences, strict=False):
            results[position] = sequence is not None
        for position in later:
            [results[position]] = await self._flush([batch[position]])
        return results

    async def _write(self, batch: Sequence[Settlement]) -> list[int | None]:
        """The event sequence of each settlement; None if its transition was not applied."""
        acknowledged, in_doubt = self._outbox.take_acknowledged(), False
        while True:
            try:
                assert failpoints.hit("settle.before_write")
                result = await self._apply(batch, acknowledged)
                assert failpoints.hit("settle.written")
                sequences = await self._find_written(batch) if in_doubt else result.sequences
                break
            except UNAVAILABLE_ERRORS as error:
                in_doubt = True
                log.warning("settle_retrying", error=type(error).__name__, waiting=len(batch))
                await asyncio.sleep(_RETRY_DELAY)
            except BaseException:
                self._outbox.restore(acknowledged)
                raise
        if result.outbox_id is not None:
            self._publish_events(batch, result, result.outbox_id)
        self._follow_up([one for one, sequence in zip(batch, sequences, strict=True) if sequence is not None])
        return sequences

    async def _find_written(self, batch: Sequence[Settlement]) -> list[int | None]:
        """As the result of a try, with what an earlier try has written although its answer was lost.

        The outbox row of that one is not known: the recovery loop publishes its events.
        """
        return await deliveries.find_written(self._db, [one.resolution.transition for one in batch])

    async def _apply(self, batch: Sequence[Settlement], acknowledged: Sequence[int]) -> TransitionResult:
        """Divide what is divided and write all transitions, in one transaction."""
        divisions = [_division(one) for one in batch if one.divided]
        if not divisions:
            return await self._transition(self._db, batch, acknowledged)
        async with self._db.acquire() as connection, connection.transaction():
            await splitting.divide(connection, divisions)
            assert failpoints.hit("settle.divided")
            return await self._transition(connection, batch, acknowledged)

    async def _transition(self, db: Db, batch: Sequence[Settlement], acknowledged: Sequence[int]) -> TransitionResult:
        return await deliveries.transition(
            db,
            [settlement.resolution.transition for settlement in batch],
            now=utc_now(),
            outbox_retry_after=OUTBOX_RETRY_AFTER,
            acknowledged=acknowledged,
        )

    def _publish_events(self, batch: Sequence[Settlement], result: TransitionResult, outbox_id: int) -> None:
        rows = zip(batch, result.sequences, result.recipients, strict=True)
        self._outbox.publish_events(outbox_id, [_event_fields(*row) for row in rows if row[1] is not None])

    def _follow_up(self, written: Sequence[Settlement]) -> None:
        self._notices.publish([one.task.message_id for one in written if one.task.awaited and _settles(one)])
        for one in written:
            _count(one)
            task = one.resolution.next_task
            if task is not None:
                assert failpoints.hit("settle.before_reroute")
                self._publisher.publish(Topic.REROUTE, None, task.encode(), task.headers())
                assert failpoints.hit("settle.rerouted")


def _settles(settlement: Settlement) -> bool:
    return STATE_ASSERTED_BY[settlement.resolution.transition.type] in SETTLED


def _count(settlement: Settlement) -> None:
    task, transition = settlement.task, settlement.resolution.transition
    metrics.series(metrics.DELIVERY_TRANSITIONS, task.channel.value, transition.type.value).inc()
    if transition.type is EventType.SENT:
        waited = (transition.occurred_at - task.enqueued_at).total_seconds()
        metrics.series(metrics.DELIVERY_DURATION, task.channel.value).observe(max(0.0, waited))


def _division(settlement: Settlement) -> Division:
    return Division(
        delivery_id=settlement.task.delivery_id,
        attempt=settlement.resolution.transition.attempt,
        envelope=settlement.envelope,
        others=tuple((part.task.delivery_id, part.envelope) for part in settlement.divided),
    )


def _event_fields(settlement: Settlement, sequence: int | None, recipient: str | None) -> dict[str, Any]:
    transition, task = settlement.resolution.transition, settlement.task
    return {
        "delivery_id": task.delivery_id,
        "sequence": sequence,
        "message_id": task.message_id,
        "project_id": task.project_id,
        "channel": task.channel,
        "type": transition.type,
        "state": STATE_ASSERTED_BY[transition.type],
        "occurred_at": transition.occurred_at,
        "attempt": transition.attempt or None,
        "provider_id": transition.provider_id,
        "outcome": transition.outcome,
        "scope": transition.scope,
        "duration_ms": transition.duration_ms,
        "recipient": recipient,
        "retry_after_s": transition.retry_after_s,
        "reason": transition.reason,
        "detail": transition.detail,
    }


async def record_late_acceptance(db: Pool, late: LateAcceptance) -> None:
    """Record an acceptance that came after its attempt was settled as unknown, with the ids that its receipts carry.

    It counts like a receipt: a delivery that waits for its next attempt is settled as sent instead. Retries while
    PostgreSQL is unavailable: nothing else has the ids.
    """
    while True:
        try:
            return await receipts.record_late_acceptance(db, late, now=utc_now())
        except UNAVAILABLE_ERRORS as error:
            log.warning("late_acceptance_retrying", error=type(error).__name__)
            await asyncio.sleep(_RETRY_DELAY)
