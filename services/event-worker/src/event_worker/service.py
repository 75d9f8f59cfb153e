"""Consumes events: applies the projections, counts events by type, and dead-letters unreadable records.

Events arrive at least once, and (``delivery_id``, ``sequence``) identifies one (docs/decisions/0019): everything here
may be repeated.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import structlog

from event_worker.events import Event, read_event
from event_worker.projections import Projection
from sluice.bus.dead_letters import RawRecord, publish_dead_letter
from sluice.bus.publisher import Publisher
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store.db import UNAVAILABLE_ERRORS

log = structlog.get_logger()

_RETRY_DELAY = 1.0  # seconds before a batch is consumed again


class DeadLetterError(Exception):
    """A dead letter could not be published; the batch is consumed again."""


class EventService:
    """Handles batches of records of ``delivery.events``."""

    def __init__(self, publisher: Publisher, projections: Sequence[Projection]) -> None:
        self._publisher = publisher
        self._projections = projections

    async def on_events(self, records: Sequence[RawRecord]) -> None:
        """Handle a batch; a repeated batch publishes its dead letters again and counts its events again.

        Raises:
            DeadLetterError: Kafka did not acknowledge a dead letter; raised after a pause.
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; raised after a pause.
        """
        found = [read_event(record.value) for record in records]
        await self._project([one.event for one in found if one is not None and one.event is not None])
        for record, one in zip(records, found, strict=True):
            if one is None and not await publish_dead_letter(self._publisher, record, "no event", at=utc_now()):
                await asyncio.sleep(_RETRY_DELAY)
                raise DeadLetterError
        for type_, number in Counter(one.label for one in found if one is not None).items():
            metrics.series(metrics.EVENTS_CONSUMED, type_).inc(number)

    async def _project(self, events: Sequence[Event]) -> None:
        try:
            for projection in self._projections:
                await projection.apply(events)
        except UNAVAILABLE_ERRORS as error:
            log.warning("events_retrying", missing="postgres", error=type(error).__name__)
            await asyncio.sleep(_RETRY_DELAY)
            raise
