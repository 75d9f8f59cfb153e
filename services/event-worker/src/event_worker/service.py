"""Consumes events: adds the webhook deliveries that follow from them, counts them by type, and dead-letters unreadable
records.

Events arrive at least once, and (``delivery_id``, ``sequence``) identifies one (docs/decisions/0019): everything here
may be repeated.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson
import structlog

from event_worker.webhooks.projection import event_key, project_events
from sluice.bus.dead_letters import RawRecord, publish_dead_letter
from sluice.bus.messages import ProviderUnresponsive, RequestRejected
from sluice.bus.publisher import Publisher
from sluice.model.state import EventType
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store.db import UNAVAILABLE_ERRORS, Db
from sluice.store.webhook_deliveries import EventKey

log = structlog.get_logger()

_RETRY_DELAY = 1.0  # seconds before a batch is consumed again

_TYPES = frozenset(
    {*EventType, *(event.model_fields["type"].default for event in (RequestRejected, ProviderUnresponsive))}
)


class DeadLetterError(Exception):
    """A dead letter could not be published; the batch is consumed again."""


class _Event(NamedTuple):
    """What is read of a record.

    ``type``: the metric's label, ``other`` for one of a newer version; ``key``: None for an event that no endpoint can
    ask for.
    """

    type: str
    key: EventKey | None


class EventService:
    """Handles batches of records of ``delivery.events``. ``on_webhooks``: called when webhook deliveries were added."""

    def __init__(self, publisher: Publisher, db: Db, *, on_webhooks: Callable[[], None]) -> None:
        self._publisher = publisher
        self._db = db
        self._on_webhooks = on_webhooks

    async def on_events(self, records: Sequence[RawRecord]) -> None:
        """Handle a batch; a repeated batch publishes its dead letters again and counts its events again.

        Raises:
            DeadLetterError: Kafka did not acknowledge a dead letter; raised after a pause.
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; raised after a pause.
        """
        events = [_read(record.value) for record in records]
        await self._project([event.key for event in events if event is not None and event.key is not None])
        for record, event in zip(records, events, strict=True):
            if event is None and not await publish_dead_letter(self._publisher, record, "no event", at=utc_now()):
                await asyncio.sleep(_RETRY_DELAY)
                raise DeadLetterError
        for type_, number in Counter(event.type for event in events if event is not None).items():
            metrics.series(metrics.EVENTS_CONSUMED, type_).inc(number)

    async def _project(self, keys: Sequence[EventKey]) -> None:
        try:
            if await project_events(self._db, keys):
                self._on_webhooks()
        except UNAVAILABLE_ERRORS as error:
            log.warning("events_retrying", missing="postgres", error=type(error).__name__)
            await asyncio.sleep(_RETRY_DELAY)
            raise


def _read(value: bytes | None) -> _Event | None:
    """The event in a record; None for a value that is no event."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    type_ = event.get("type") if isinstance(event, dict) else None
    if not isinstance(type_, str):
        return None
    try:
        return _Event(type_ if type_ in _TYPES else "other", event_key(event))
    except ValueError:
        return None
