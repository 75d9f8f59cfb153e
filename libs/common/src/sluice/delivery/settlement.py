"""Settle, then announce, then hand on: the one way in which a delivery moves through its attempts.

Steps from many tasks are written together. The drives that follow need no cover: ``due_at`` is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from sluice.bus.messages import DeliveryTask
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Topic
from sluice.delivery.outbox import OUTBOX_RETRY_AFTER, OutboxPublisher
from sluice.delivery.retry_policy import Resolution
from sluice.model.outcome import Scope
from sluice.model.state import STATE_ASSERTED_BY, EventType
from sluice.runtime import failpoints
from sluice.runtime.batching import Batcher
from sluice.runtime.clock import utc_now
from sluice.store import deliveries, receipts
from sluice.store.db import UNAVAILABLE_ERRORS, Db
from sluice.store.deliveries import Transition
from sluice.store.receipts import ReceiptEntry

log = structlog.get_logger()

_RETRY_DELAY = 0.3  # seconds before a write is tried again while Postgres is away


class Settlement(NamedTuple):
    """A conclusion about a delivery, with what its event says beyond the step."""

    task: DeliveryTask
    resolution: Resolution
    started_at: datetime | None = None
    retry_after: timedelta | None = None  # what a throttling provider asked for
    scope: Scope | None = None  # of a declined or throttled attempt


class SettlementWriter:
    """Writes conclusions in batches and announces what was written."""

    def __init__(self, db: Db, publisher: Publisher, *, size: int = 200, parallel: int = 2) -> None:
        self._db = db
        self._publisher = publisher
        self._outbox = OutboxPublisher(db, publisher)
        self._batcher: Batcher[Settlement, bool] = Batcher(
            self._flush,
            name="settle",
            size=size,
            parallel=parallel,
            # Nobody waits for it, and answers come one by one: every 2 ms, settling a few at a time took a tenth of all
            # CPU at half load and doubled the gateway's p99. What is not settled in a crash has an unknown outcome.
            pace=0.020,
            split_on=(asyncpg.DataError, ValueError),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SettlementWriter]:
        """Settle until the block ends; what was submitted before is settled and announced."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._outbox.running())
            await stack.enter_async_context(self._batcher.running())
            yield self

    def settle(self, settlement: Settlement) -> asyncio.Future[bool]:
        """True once it is written; False if somebody else had moved the delivery first. Waits out an outage."""
        return self._batcher.submit(settlement)

    async def _flush(self, batch: Sequence[Settlement]) -> list[bool]:
        # A statement moves a row once: a second step of the same delivery waits for the next batch.
        firsts: dict[UUID, int] = {}
        later: list[int] = []
        for place, settlement in enumerate(batch):
            if firsts.setdefault(settlement.task.delivery_id, place) != place:
                later.append(place)
        results = [False] * len(batch)
        numbers = await self._write([batch[place] for place in firsts.values()])
        for place, number in zip(firsts.values(), numbers, strict=True):
            results[place] = number is not None
        for place in later:
            [results[place]] = await self._flush([batch[place]])
        return results

    async def _write(self, batch: Sequence[Settlement]) -> list[int | None]:
        """The event number of each; None for what was not applied."""
        carried = self._outbox.take_acknowledged()
        while True:
            try:
                assert failpoints.hit("settle.before_write")
                applied = await deliveries.transition(
                    self._db,
                    [settlement.resolution.transition for settlement in batch],
                    now=utc_now(),
                    outbox_retry_after=OUTBOX_RETRY_AFTER,
                    acknowledged=carried,
                )
                assert failpoints.hit("settle.written")
                break
            except UNAVAILABLE_ERRORS as error:
                log.warning("settle_retrying", error=type(error).__name__, waiting=len(batch))
                await asyncio.sleep(_RETRY_DELAY)
            except BaseException:
                self._outbox.restore(carried)
                raise
        if applied.outbox_id is not None:
            self._publish(batch, applied.sequences, applied.outbox_id)
        return applied.sequences

    def _publish(self, batch: Sequence[Settlement], numbers: Sequence[int | None], announcement: int) -> None:
        written = [(one, number) for one, number in zip(batch, numbers, strict=True) if number is not None]
        self._outbox.publish_events(announcement, [_event(one, number) for one, number in written])
        for one, _ in written:
            following = one.resolution.next_task
            if following is not None:
                assert failpoints.hit("settle.before_reroute")
                self._publisher.publish(Topic.REROUTE, None, following.encode())
                assert failpoints.hit("settle.rerouted")


def _event(settlement: Settlement, number: int) -> dict[str, Any]:
    step, task = settlement.resolution.transition, settlement.task
    took = (
        None
        if settlement.started_at is None
        else int((step.occurred_at - settlement.started_at).total_seconds() * 1000)
    )
    return {
        "delivery_id": task.delivery_id,
        "sequence": number,
        "message_id": task.message_id,
        "project_id": task.project_id,
        "channel": task.channel,
        "type": step.type,
        "state": STATE_ASSERTED_BY[step.type],
        "occurred_at": step.occurred_at,
        "attempt": step.attempt or None,
        "provider_id": step.provider_id,
        "outcome": step.outcome,
        "scope": settlement.scope,
        "duration_ms": took,
        "retry_after_s": settlement.retry_after.total_seconds() if settlement.retry_after else None,
        "reason": step.reason,
        "detail": step.detail,
    }


async def record_late_acceptance(db: Db, transition: Transition) -> None:
    """Record an acceptance whose attempt was settled as unknown because its lease had expired.

    It counts like a receipt: a delivery that waits for its next attempt is settled as sent instead.
    """
    if transition.type is not EventType.SENT or transition.provider_id is None:
        return
    receipt = ReceiptEntry(
        delivery_id=transition.delivery_id,
        attempt=transition.attempt,
        provider_id=transition.provider_id,
        receipt_id=f"late answer to attempt {transition.attempt}",
        type=transition.type,
        occurred_at=transition.occurred_at,
        detail="the answer came after the lease had expired",
    )
    # If PostgreSQL is unavailable, the delivery class decides, as for any unknown outcome. The recovery loop publishes
    # the event: the outbox row is due at once.
    with contextlib.suppress(*UNAVAILABLE_ERRORS):
        await receipts.apply(db, [receipt], now=utc_now(), outbox_retry_after=timedelta(0))
