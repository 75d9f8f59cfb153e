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
from sluice.bus.publisher import Publication, Publisher, acknowledged
from sluice.bus.topics import Topic
from sluice.runtime import failpoints
from sluice.runtime.tasks import Tasks, end, lasting
from sluice.store import outbox
from sluice.store.db import UNAVAILABLE, Db

ANNOUNCE_WITHIN = timedelta(seconds=10)
_FORGET_EVERY = 0.5  # seconds between removals of acknowledged announcements when no statement carries them along


class Announcer:
    """Publishes events and keeps count of the announcements that the broker has."""

    def __init__(self, db: Db, publisher: Publisher) -> None:
        self._db = db
        self._publisher = publisher
        self._acknowledged: list[int] = []
        self._announcing = Tasks()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Announcer]:
        """Announce until the block ends; what was begun is finished."""
        forgetter = lasting(self._forget_regularly(), name="forget-announcements")
        try:
            yield self
        finally:
            await end(forgetter)
            await self._announcing.ended()
            await self._forget()

    def announce(self, announcement: int, events: Iterable[Mapping[str, Any]]) -> None:
        """Publish events, given as fields of :class:`DeliveryEvent`, that the row ``announcement`` covers.

        Nobody waits for it.
        """
        published = [self._publisher.publish(Topic.EVENTS, *_key_and_value(fields)) for fields in events]
        assert failpoints.at("announce.published")
        self._announcing.spawn(self._acknowledge(announcement, published))

    def take_acknowledged(self) -> list[int]:
        """Announcements that may be removed: the caller's next statement does it, or gives them back."""
        taken, self._acknowledged = self._acknowledged, []
        return taken

    def give_back(self, taken: Sequence[int]) -> None:
        """The statement that was to remove them failed."""
        self._acknowledged += taken

    async def _acknowledge(self, announcement: int, published: Sequence[Publication]) -> None:
        if await acknowledged(published):
            assert failpoints.at("announce.acknowledged")
            self._acknowledged.append(announcement)

    async def _forget_regularly(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_EVERY)
            await self._forget()

    async def _forget(self) -> None:
        taken = self.take_acknowledged()
        if not taken:
            return
        try:
            await outbox.forget(self._db, taken)
            assert failpoints.at("announce.forgotten")
        except UNAVAILABLE:
            self.give_back(taken)


async def announce_again(db: Db, publisher: Publisher, announcement: int) -> bool:
    """Announce from the record what a process that is gone had settled; True once the broker has it."""
    published = []
    for row in await outbox.events_of(db, announcement):
        started, finished = row.pop("started_at"), row.pop("finished_at")
        took = int((finished - started).total_seconds() * 1000) if started and finished else None
        published.append(publisher.publish(Topic.EVENTS, *_key_and_value({**row, "took_ms": took})))
    return await acknowledged(published)


def _key_and_value(fields: Mapping[str, Any]) -> tuple[bytes, bytes]:
    return fields["message_id"].bytes, DeliveryEvent.encoded(**fields)
