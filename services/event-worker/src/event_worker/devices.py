"""The projection of events to devices: a device that its provider reports as unregistered is removed.

A repeated event changes nothing: a device that was registered again since the event stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from event_worker.events import Event
from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.store import devices
from sluice.store.db import Db


class DeviceProjection:
    """Removes the devices that are gone."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def apply(self, events: Sequence[Event]) -> None:
        """Remove the devices of a batch of events: one statement, or none.

        Raises:
            asyncpg's or the network's errors: nothing was written; the batch may be repeated.
        """
        sources = {event.source for event in events if event.type is EventType.FAILED and event.channel is Channel.PUSH}
        if sources:
            await devices.remove_unregistered(self._db, sorted(sources))
