"""The events that the projections read: each record is parsed once for all of them."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import orjson
from pydantic import Field, ValidationError

from sluice.bus.messages import NON_DELIVERY_TYPES, BusMessage
from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.store.suppressions import EventSource

_TYPES = frozenset(EventType)
_MAX_SEQUENCE = (1 << 15) - 1  # smallint


class Event(BusMessage):
    """The part of a :class:`sluice.bus.messages.DeliveryEvent` that says where to look; the database has the facts."""

    delivery_id: UUID
    sequence: int = Field(ge=1, le=_MAX_SEQUENCE, strict=True)
    project_id: UUID
    channel: Channel
    type: EventType
    provider_id: UUID | None = None
    outcome: str | None = None

    @property
    def source(self) -> EventSource:
        """Its identity."""
        return EventSource(self.delivery_id, self.sequence)


class Read(NamedTuple):
    """A record of ``delivery.events``. ``label``: its type for metrics, ``other`` for one of a newer version.

    ``event``: None for an event that belongs to no delivery, or is of a newer version.
    """

    label: str
    event: Event | None


def read_event(value: bytes | None) -> Read | None:
    """The event of a record; None for a value that is no event."""
    try:
        event = Event.model_validate_json(value or b"")
    except ValidationError:
        return _read_other(value or b"")
    return Read(event.type.value, event)


def _read_other(value: bytes) -> Read | None:
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    type_ = fields.get("type") if isinstance(fields, dict) else None
    if not isinstance(type_, str) or type_ in _TYPES:
        return None
    return Read(type_ if type_ in NON_DELIVERY_TYPES else "other", None)
