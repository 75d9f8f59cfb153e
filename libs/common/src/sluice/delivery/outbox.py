"""Telling the bus what was settled: every event that is in the record arrives on ``delivery.events``.

Events are written together with a row in ``announcements`` that covers them. The row is removed once the broker has
acknowledged them all; what outlives its time is announced again from the record by the recovery loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from sluice.bus.messages import DeliveryEvent
from sluice.bus.publisher import Publisher, PublishResult, wait_for_acks
from sluice.bus.topics import Topic
from sluice.runtime import failpoints
from sluice.runtime.tasks import TaskSet, cancel_and_wait, supervised
from sluice.store import outbox
from sluice.store.db import UNAVAILABLE_ERRORS, Db

OUTBOX_RETRY_AFTER = timedelta(seconds=10)
_DELETE_INTERVAL = 0.5  # seconds between removals of acknowledged announcements when no statement carries them along


class OutboxPublisher:
    """Publishes events and keeps count of the announcements that the broker has."""

    def __init__(self, db: Db, publisher: Publisher) -> None:
        self._db = db
        self._publisher = publisher
        self._acknowledged: list[int] = []
        self._publishing = TaskSet()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OutboxPublisher]:
        """Announce until the block ends; what was begun is finished."""
        forgetter = supervised(self._delete_regularly(), name="forget-announcements")
        try:
            yield self
        finally:
            await cancel_and_wait(forgetter)
            await self._publishing.join()
            await self._delete_acknowledged()

    def publish_events(self, outbox_id: int, events: Iterable[Mapping[str, Any]]) -> None:
        """Publish events, given as fields of :class:`DeliveryEvent`, that the row ``announcement`` covers.

        Nobody waits for it.
        """
        published = [self._publisher.publish(Topic.EVENTS, *_key_and_value(fields)) for fields in events]
        assert failpoints.hit("outbox.published")
        self._publishing.spawn(self._acknowledge(outbox_id, published))

    def take_acknowledged(self) -> list[int]:
        """Announcements that may be removed: the caller's next statement does it, or gives them back."""
        taken, self._acknowledged = self._acknowledged, []
        return taken

    def restore(self, taken: Sequence[int]) -> None:
        """The statement that was to remove them failed."""
        self._acknowledged += taken

    async def _acknowledge(self, announcement: int, published: Sequence[PublishResult]) -> None:
        if await wait_for_acks(published):
            assert failpoints.hit("outbox.acknowledged")
            self._acknowledged.append(announcement)

    async def _delete_regularly(self) -> None:
        while True:
            await asyncio.sleep(_DELETE_INTERVAL)
            await self._delete_acknowledged()

    async def _delete_acknowledged(self) -> None:
        taken = self.take_acknowledged()
        if not taken:
            return
        try:
            await outbox.delete(self._db, taken)
            assert failpoints.hit("outbox.deleted")
        except UNAVAILABLE_ERRORS:
            self.restore(taken)


async def republish(db: Db, publisher: Publisher, outbox_id: int) -> bool:
    """Announce from the record what a process that is gone had settled; True once the broker has it."""
    published = []
    for row in await outbox.events_for(db, outbox_id):
        started, finished = row.pop("started_at"), row.pop("finished_at")
        took = int((finished - started).total_seconds() * 1000) if started and finished else None
        published.append(publisher.publish(Topic.EVENTS, *_key_and_value({**row, "duration_ms": took})))
    return await wait_for_acks(published)


def _key_and_value(fields: Mapping[str, Any]) -> tuple[bytes, bytes]:
    return fields["message_id"].bytes, DeliveryEvent.encode_unchecked(**fields)
