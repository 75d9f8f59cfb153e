"""The projection of events: one webhook delivery for each endpoint that asks for the event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.model.webhooks import webhook_type
from sluice.runtime import failpoints
from sluice.runtime.clock import utc_now
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


async def project_events(db: Db, events: Iterable[EventKey]) -> int:
    """Add the webhook deliveries of a batch, in one statement; returns how many. A repeat adds nothing."""
    batch = sorted(set(events))  # in one order, so that concurrent batches do not block each other
    if not batch:
        return 0
    assert failpoints.hit("webhook.before_project")
    added = await webhook_deliveries.project(db, batch, now=utc_now())
    assert failpoints.hit("webhook.projected")
    return added
