"""The outbox relay: every event in PostgreSQL is published on ``delivery.events``.

Events are written together with a row of ``event_outbox`` that covers them. The row is deleted once Kafka has
acknowledged them all; the recovery loop publishes the events of overdue rows again.
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
from sluice.model.destination import destination_of
from sluice.model.message import Channel
from sluice.runtime import failpoints
from sluice.runtime.tasks import TaskSet, cancel_and_wait, supervised
from sluice.store import outbox
from sluice.store.db import UNAVAILABLE_ERRORS, Db

OUTBOX_RETRY_AFTER = timedelta(seconds=10)
_DELETE_INTERVAL = 0.5  # seconds between deletions of acknowledged rows that no other statement deletes


class OutboxPublisher:
    """Publishes events and collects the outbox rows that Kafka has acknowledged."""

    def __init__(self, db: Db, publisher: Publisher) -> None:
        self._db = db
        self._publisher = publisher
        self._acknowledged: list[int] = []
        self._publishing = TaskSet()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OutboxPublisher]:
        """Publish until the block ends; publications in progress are finished."""
        deleter = supervised(self._delete_regularly(), name="outbox-deletion")
        try:
            yield self
        finally:
            await cancel_and_wait(deleter)
            await self._publishing.join()
            await self._delete_acknowledged()

    def publish_events(self, outbox_id: int, events: Iterable[Mapping[str, Any]]) -> None:
        """Publish the events that the row ``outbox_id`` covers, given as fields of :class:`DeliveryEvent`.

        In place of the destination they have the delivery's recipient, which is not published.
        Does not wait for the acknowledgement.
        """
        published = [self._publisher.publish(Topic.EVENTS, *_key_and_value(fields)) for fields in events]
        assert failpoints.hit("outbox.published")
        self._publishing.spawn(self._acknowledge(outbox_id, published))

    def take_acknowledged(self) -> list[int]:
        """Outbox rows to delete: the caller's next statement deletes them, or the caller restores them."""
        rows, self._acknowledged = self._acknowledged, []
        return rows

    def restore(self, rows: Sequence[int]) -> None:
        """Return rows whose deletion failed."""
        self._acknowledged += rows

    async def _acknowledge(self, outbox_id: int, published: Sequence[PublishResult]) -> None:
        if await wait_for_acks(published):
            assert failpoints.hit("outbox.acknowledged")
            self._acknowledged.append(outbox_id)

    async def _delete_regularly(self) -> None:
        while True:
            await asyncio.sleep(_DELETE_INTERVAL)
            await self._delete_acknowledged()

    async def _delete_acknowledged(self) -> None:
        rows = self.take_acknowledged()
        if not rows:
            return
        try:
            await outbox.delete(self._db, rows)
            assert failpoints.hit("outbox.deleted")
        except UNAVAILABLE_ERRORS:
            self.restore(rows)


async def republish(db: Db, publisher: Publisher, outbox_id: int) -> bool:
    """Publish the events of an overdue outbox row from PostgreSQL; True once Kafka has acknowledged them."""
    events = await outbox.events_for(db, outbox_id)
    return await wait_for_acks([publisher.publish(Topic.EVENTS, *_key_and_value(fields)) for fields in events])


_FIELDS = tuple(DeliveryEvent.model_fields)


def _key_and_value(fields: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """One form for the first publication and for a repeat: the same fields, in the same order."""
    named = {**fields, "destination": destination_of(Channel(fields["channel"]), fields["recipient"])}
    return fields["message_id"].bytes, DeliveryEvent.encode_unchecked(**{name: named.get(name) for name in _FIELDS})
