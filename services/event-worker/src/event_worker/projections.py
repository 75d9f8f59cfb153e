"""The projections: what follows from events. A new one is added to :func:`projections_of`, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from event_worker.analytics import AnalyticsProjection
from event_worker.devices import DeviceProjection
from event_worker.events import Event
from event_worker.incidents import Incidents
from event_worker.silence import ReceiptProjection
from event_worker.suppressions import SuppressionProjection
from event_worker.webhooks.projection import WebhookProjection
from event_worker.webhooks.sender import WebhookSender
from sluice.store.db import Pool


class Projection(Protocol):
    """A consequence of events. It may be repeated: a repeated event changes nothing but approximate counts."""

    async def apply(self, events: Sequence[Event]) -> None:
        """Write what follows from a batch of events, in a fixed number of statements.

        ``events``: those of deliveries; they only say where to look, and the database has the facts.

        Raises:
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; the batch is applied again.
        """
        ...


def projections_of(pool: Pool, sender: WebhookSender, incidents: Incidents) -> tuple[Projection, ...]:
    """All projections of the event-worker, the most urgent first."""
    return (
        SuppressionProjection(pool),
        WebhookProjection(pool, on_added=sender.wake),
        ReceiptProjection(pool),
        incidents,
        DeviceProjection(pool),
        AnalyticsProjection(pool),
    )
