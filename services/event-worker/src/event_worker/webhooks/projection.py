"""The projection of events: one webhook delivery for each endpoint that asks for the event."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from event_worker.events import Event
from sluice.model.webhooks import webhook_type
from sluice.runtime import failpoints
from sluice.store import webhook_deliveries
from sluice.store.db import Db
from sluice.store.webhook_deliveries import EventKey


class WebhookProjection:
    """Adds the webhook deliveries that follow from events. ``on_added``: called when some were added."""

    def __init__(self, db: Db, *, on_added: Callable[[], None]) -> None:
        self._db = db
        self._on_added = on_added

    async def apply(self, events: Sequence[Event]) -> None:
        """Add the webhook deliveries of a batch, in one statement; a repeat adds nothing.

        Raises:
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; the batch may be repeated.
        """
        keys = {
            EventKey(event.delivery_id, event.sequence, event.project_id, event.channel, event.type, wanted)
            for event in events
            if (wanted := webhook_type(event.channel, event.type)) is not None
        }
        if not keys:
            return
        assert failpoints.hit("webhook.before_project")
        # In one order, so that concurrent batches do not block each other.
        added = await webhook_deliveries.project(self._db, sorted(keys))
        assert failpoints.hit("webhook.projected")
        if added:
            self._on_added()
