"""Consumes events: applies the projections, counts events by type, and dead-letters unreadable records.

Events arrive at least once, and (``delivery_id``, ``sequence``) identifies one (docs/decisions/0019): everything here
may be repeated.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog

from event_worker.projections import Projection
from event_worker.webhooks.projection import event_key
from sluice.bus.dead_letters import RawRecord, publish_dead_letter
from sluice.bus.messages import NON_DELIVERY_TYPES
from sluice.bus.publisher import Publisher
from sluice.model.state import EventType
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store.db import UNAVAILABLE_ERRORS

log = structlog.get_logger()

_RETRY_DELAY = 1.0  # seconds before a batch is consumed again

_TYPES = frozenset(EventType) | NON_DELIVERY_TYPES


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
        events = [_read(record.value) for record in records]
        await self._project([event for event in events if event is not None])
        for record, event in zip(records, events, strict=True):
            if event is None and not await publish_dead_letter(self._publisher, record, "no event", at=utc_now()):
                await asyncio.sleep(_RETRY_DELAY)
                raise DeadLetterError
        for type_, number in Counter(_label(event) for event in events if event is not None).items():
            metrics.series(metrics.EVENTS_CONSUMED, type_).inc(number)

    async def _project(self, events: Sequence[Mapping[str, Any]]) -> None:
        try:
            for projection in self._projections:
                await projection.apply(events)
        except UNAVAILABLE_ERRORS as error:
            log.warning("events_retrying", missing="postgres", error=type(error).__name__)
            await asyncio.sleep(_RETRY_DELAY)
            raise


def _read(value: bytes | None) -> dict[str, Any] | None:
    """The fields of the event; None for a value that is no event."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    if not (isinstance(event, dict) and isinstance(event.get("type"), str)):
        return None
    try:
        event_key(event)
    except ValueError:
        return None
    return event


def _label(event: Mapping[str, Any]) -> str:
    """The metric's label: the event's type, ``other`` for one of a newer version."""
    type_: str = event["type"]
    return type_ if type_ in _TYPES else "other"
