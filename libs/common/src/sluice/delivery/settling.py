"""Settle, then announce: the one way in which a delivery moves on.

Steps from many tasks are written together. Their events are announced on the bus afterwards, covered by a row in
``announcements`` until the broker has them; the drives that follow need no such cover, because ``due_at`` is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import structlog

from sluice.batching import Batcher
from sluice.bus.events import DeliveryEvent, Drive
from sluice.bus.publisher import Publisher, acknowledged
from sluice.bus.topics import Topic
from sluice.clock import utc_now
from sluice.delivery.policy import Conclusion
from sluice.model.state import ASSERTS
from sluice.store import announcements, deliveries
from sluice.store.db import UNAVAILABLE, Db

log = structlog.get_logger()

ANNOUNCE_WITHIN = timedelta(seconds=10)
_FORGET_EVERY = 0.5  # seconds between removals of acknowledged announcements when no step carries them along
_AGAIN = 0.3  # seconds before a write is tried again while Postgres is away


@dataclass(frozen=True, slots=True)
class Settlement:
    """A conclusion about a delivery, with what its event says beyond the step."""

    drive: Drive
    conclusion: Conclusion
    started_at: datetime | None = None
    retry_after: timedelta | None = None  # what a throttling provider asked for


class Settler:
    """Writes conclusions in batches and announces what was written."""

    def __init__(self, db: Db, publisher: Publisher, *, size: int = 200, parallel: int = 2) -> None:
        self._db = db
        self._publisher = publisher
        self._batcher: Batcher[Settlement, bool] = Batcher(
            self._flush,
            name="settle",
            size=size,
            parallel=parallel,
            linger=0.002,
            split_on=(asyncpg.DataError, ValueError),
        )
        self._acknowledged: list[int] = []
        self._announcing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Settler]:
        """Settle until the block ends; what was submitted before is settled and announced."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._batcher.running())
            forgetter = asyncio.create_task(self._forget_regularly(), name="forget-announcements")
            try:
                yield self
            finally:
                forgetter.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await forgetter
        await asyncio.gather(*self._announcing)
        await self._forget()

    def settle(self, settlement: Settlement) -> asyncio.Future[bool]:
        """True once it is written; False if somebody else had moved the delivery first. Waits out an outage."""
        return self._batcher.submit(settlement)

    async def _flush(self, batch: Sequence[Settlement]) -> list[bool]:
        # A statement moves a row once: a second step of the same delivery waits for the next batch.
        firsts: dict[object, int] = {}
        for position, settlement in enumerate(batch):
            firsts.setdefault(settlement.drive.delivery_id, position)
        won = await self._write([batch[position] for position in firsts.values()])
        results = [firsts[one.drive.delivery_id] == i and won[one.drive.delivery_id] for i, one in enumerate(batch)]
        for position, settlement in enumerate(batch):
            if firsts[settlement.drive.delivery_id] != position:
                results[position] = (await self._flush([settlement]))[0]
        return results

    async def _write(self, batch: Sequence[Settlement]) -> dict[object, bool]:
        carried, self._acknowledged = self._acknowledged, []
        while True:
            try:
                applied = await deliveries.transition(
                    self._db,
                    [settlement.conclusion.step for settlement in batch],
                    now=utc_now(),
                    announce_within=ANNOUNCE_WITHIN,
                    acknowledged=carried,
                )
                break
            except UNAVAILABLE as error:
                log.warning("settle_waits", error=type(error).__name__, waiting=len(batch))
                await asyncio.sleep(_AGAIN)
            except BaseException:
                self._acknowledged += carried
                raise
        self._announce(batch, applied)
        return {one.drive.delivery_id: one.drive.delivery_id in applied.numbers for one in batch}

    def _announce(self, batch: Sequence[Settlement], applied: deliveries.Applied) -> None:
        if applied.announcement is None:
            return
        published = []
        for settlement in batch:
            number = applied.numbers.get(settlement.drive.delivery_id)
            if number is None:
                continue
            event = _event(settlement, number)
            key = event.message_id.bytes
            published.append(self._publisher.publish(Topic.EVENTS, key, event.encode()))
            if settlement.conclusion.next is not None:
                self._publisher.publish(Topic.REROUTE, key, settlement.conclusion.next.encode())
        task = asyncio.create_task(self._acknowledge(applied.announcement, published), name="announce")
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    async def _acknowledge(self, announcement: int, published: list[asyncio.Future[None]]) -> None:
        if await acknowledged(published):
            self._acknowledged.append(announcement)

    async def _forget_regularly(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_EVERY)
            await self._forget()

    async def _forget(self) -> None:
        carried, self._acknowledged = self._acknowledged, []
        if not carried:
            return
        try:
            await announcements.forget(self._db, carried)
        except UNAVAILABLE:
            self._acknowledged += carried


def _event(settlement: Settlement, number: int) -> DeliveryEvent:
    step, drive = settlement.conclusion.step, settlement.drive
    took = None if settlement.started_at is None else int((step.at - settlement.started_at).total_seconds() * 1000)
    return DeliveryEvent(
        delivery_id=drive.delivery_id,
        number=number,
        message_id=drive.message_id,
        project_id=drive.project_id,
        channel=drive.channel,
        kind=step.kind,
        state=ASSERTS[step.kind],
        at=step.at,
        attempt=step.attempt or None,
        provider_id=step.provider_id,
        outcome=step.outcome,
        took_ms=took,
        retry_after_s=settlement.retry_after.total_seconds() if settlement.retry_after else None,
        detail=step.detail,
    )


async def announce_again(db: Db, publisher: Publisher, announcement: int) -> bool:
    """Announce from the record what a process that is gone had settled; True once the broker has it."""
    published = []
    for row in await announcements.events_of(db, announcement):
        started, finished = row.pop("started_at"), row.pop("finished_at")
        took = int((finished - started).total_seconds() * 1000) if started and finished else None
        event = DeliveryEvent(**row, took_ms=took)
        published.append(publisher.publish(Topic.EVENTS, event.message_id.bytes, event.encode()))
    return await acknowledged(published)
