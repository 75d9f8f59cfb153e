"""The projection of events to the rollups of analytics."""

from __future__ import annotations

from collections.abc import Iterable

from event_worker.events import Event
from sluice.model.state import EventType
from sluice.runtime import failpoints
from sluice.store import analytics
from sluice.store.db import Pool

# Those of a delivery that change a number. The others are read with the next one of these.
_TYPES = frozenset(EventType) - {EventType.ACCEPTED, EventType.SENDING, EventType.POSTPONED, EventType.DEFERRED}


class AnalyticsProjection:
    """Counts what became of the deliveries that events are about."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def apply(self, events: Iterable[Event]) -> None:
        """Count a batch, with every earlier event of its deliveries; a repeat counts nothing.

        Raises:
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; the batch may be repeated.
        """
        delivery_ids = {event.delivery_id for event in events if event.type in _TYPES}
        if delivery_ids:
            assert failpoints.hit("analytics.before_count")
            await analytics.count(self._pool, delivery_ids)
            assert failpoints.hit("analytics.counted")
