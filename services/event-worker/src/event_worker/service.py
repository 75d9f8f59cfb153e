"""Consumes events, counts them by type, and dead-letters unreadable records.

What follows from events (customer webhooks, analytics, suppression) is added here, once each has its own definition of
a repeat: events arrive at least once, and (``delivery_id``, ``sequence``) identifies one (docs/decisions/0019).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import orjson

from sluice.bus.dead_letters import RawRecord, publish_dead_letter
from sluice.bus.messages import ProviderUnresponsive, RequestRejected
from sluice.bus.publisher import Publisher
from sluice.model.state import EventType
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now

_RETRY_DELAY = 1.0  # seconds before a batch is consumed again

_TYPES = frozenset(
    {*EventType, *(event.model_fields["type"].default for event in (RequestRejected, ProviderUnresponsive))}
)


class DeadLetterError(Exception):
    """A dead letter could not be published; the batch is consumed again."""


class EventService:
    """Handles batches of records of ``delivery.events``."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def on_events(self, records: Sequence[RawRecord]) -> None:
        """Handle a batch; a repeated batch publishes its dead letters again and counts its events again.

        Raises:
            DeadLetterError: Kafka did not acknowledge a dead letter; raised after a pause.
        """
        types = [_type_of(record.value) for record in records]
        for record, type_ in zip(records, types, strict=True):
            if type_ is None and not await publish_dead_letter(self._publisher, record, "no event", at=utc_now()):
                await asyncio.sleep(_RETRY_DELAY)
                raise DeadLetterError
        for type_, number in Counter(type_ for type_ in types if type_ is not None).items():
            metrics.series(metrics.EVENTS_CONSUMED, type_).inc(number)


def _type_of(value: bytes | None) -> str | None:
    """The metric's label: the event's type, ``other`` for one of a newer version; None for a value that is no event."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    type_ = event.get("type") if isinstance(event, dict) else None
    if not isinstance(type_, str):
        return None
    return type_ if type_ in _TYPES else "other"
