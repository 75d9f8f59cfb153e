"""The projection of events: one webhook delivery for each endpoint that asks for the event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.model.webhooks import webhook_type
from sluice.runtime import failpoints
from sluice.store import webhook_deliveries
from sluice.store.db import Db
from sluice.store.webhook_deliveries import EventKey

_TYPES = frozenset(EventType)


def event_key(event: Mapping[str, Any]) -> EventKey | None:
    """The event of a record that is one of a delivery; None for one that no endpoint can ask for.

    Raises:
        ValueError: the record lacks a field, or has one of another form.
    """
    if event["type"] not in _TYPES:
        return None
    try:
        channel, type_ = Channel(event["channel"]), EventType(event["type"])
        sequence = event["sequence"]
        if not isinstance(sequence, int) or isinstance(sequence, bool) or not 0 < sequence < 1 << 15:
            raise ValueError("sequence is not a number of an event")
        delivery_id, project_id = UUID(event["delivery_id"]), UUID(event["project_id"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no event of a delivery: {error}") from error
    wanted = webhook_type(channel, type_)
    return None if wanted is None else EventKey(delivery_id, sequence, project_id, channel, type_, wanted)


class WebhookProjection:
    """Adds the webhook deliveries that follow from events. ``on_added``: called when some were added."""

    def __init__(self, db: Db, *, on_added: Callable[[], None]) -> None:
        self._db = db
        self._on_added = on_added

    async def apply(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Add the webhook deliveries of a batch, in one statement; a repeat adds nothing.

        Raises:
            ValueError: an event lacks a field, or has one of another form; nothing was added.
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; the batch may be repeated.
        """
        keys = {key for event in events if (key := event_key(event)) is not None}
        if not keys:
            return
        assert failpoints.hit("webhook.before_project")
        # In one order, so that concurrent batches do not block each other.
        added = await webhook_deliveries.project(self._db, sorted(keys))
        assert failpoints.hit("webhook.projected")
        if added:
            self._on_added()
