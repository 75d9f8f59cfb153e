"""The projection of events to suppressions: hard bounces, complaints and refused recipients suppress their address.

A repeated event changes nothing, because an address is suppressed once; the events of test messages suppress nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from event_worker.events import Event
from sluice.model.state import EventType
from sluice.model.suppression import known_address, suppression_reason
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store import suppressions
from sluice.store.db import Db
from sluice.store.suppressions import EventRecipients, NewSuppression, Recipient

_TYPES = frozenset({EventType.BOUNCED, EventType.COMPLAINED, EventType.FAILED})


class SuppressionProjection:
    """Adds the suppressions that follow from events."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def apply(self, events: Iterable[Event]) -> None:
        """Write the suppressions of a batch: two statements, or none.

        What an event is about is read from the database: the record only says where to look.

        Raises:
            asyncpg's or the network's errors: nothing was written; the batch may be repeated.
        """
        sources = {event.source for event in events if event.type in _TYPES}
        if not sources:
            return
        found = await suppressions.recipients_of_events(self._db, sorted(sources))
        new = [suppression for one in found if (suppression := _suppression(one)) is not None]
        added = await suppressions.add(self._db, new, now=utc_now())
        for recipient in added:
            metrics.series(metrics.SUPPRESSIONS_ADDED, recipient.channel).inc()


def _suppression(found: EventRecipients) -> NewSuppression | None:
    """What follows from an event; nothing when it does not say which of several recipients it is about."""
    reason = suppression_reason(found.type, found.reason)
    if reason is None or found.sandbox:
        return None
    addresses = {address for text in found.addresses if (address := known_address(found.channel, text)) is not None}
    named = known_address(found.channel, found.named) if found.named else None
    if len(addresses) == 1:
        [named] = addresses  # a provider may name the address to which a mail was forwarded
    elif not addresses and named is None and found.sole_recipient is not None:
        named = known_address(found.channel, found.sole_recipient)
    # Erased addresses cannot contradict the name, which comes from the provider itself: its receipts are verified.
    if named is None or (addresses and named not in addresses):
        return None
    return NewSuppression(
        Recipient(found.project_id, found.channel, named),
        reason,
        found.detail,
        found.source.delivery_id,
        found.source.sequence,
        found.provider_id,
    )
