"""Where an event is in the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sluice.store.suppressions import EventSource

_MAX_SEQUENCE = 32_767  # smallint


def event_source(event: Mapping[str, Any]) -> EventSource | None:
    """The identity of a delivery event; None for an event of another kind."""
    sequence = event.get("sequence")
    if not isinstance(sequence, int) or not 0 < sequence <= _MAX_SEQUENCE:
        return None
    try:
        return EventSource(UUID(event.get("delivery_id")), sequence)
    except (AttributeError, TypeError, ValueError):
        return None
