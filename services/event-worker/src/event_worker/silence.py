"""Providers whose receipts fall silent: noticed from the events, in batches.

A provider that forgets its webhook, or whose secret was changed at one end only, raises no error anywhere: its messages
stay SENT.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from event_worker.events import Event
from event_worker.settings import SilenceSettings
from sluice.model.state import EventType
from sluice.providers.contract import RECEIPT_TYPES
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store import provider_receipts
from sluice.store.db import UNAVAILABLE_ERRORS, Db
from sluice.store.provider_receipts import ProviderEvents

log = structlog.get_logger()

_INTERVAL = 30.0  # seconds between two looks
# Without an outcome. A delivery also fails without a receipt, when every provider was tried.
_OF_RECEIPTS = RECEIPT_TYPES - {EventType.FAILED}


class ReceiptProjection:
    """Counts, for each provider, the attempts that it accepted since its newest receipt."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def apply(self, events: Sequence[Event]) -> None:
        """Add a batch in one statement; a repeated one counts again.

        Raises:
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; the batch may be repeated.
        """
        accepted: Counter[UUID] = Counter()
        received: set[UUID] = set()
        for event in events:
            if event.provider_id is None:
                continue
            if event.outcome == "accepted":
                accepted[event.provider_id] += 1
            elif event.outcome is None and event.type in _OF_RECEIPTS:
                received.add(event.provider_id)
        batch = [ProviderEvents(one, accepted[one], one in received) for one in sorted(accepted.keys() | received)]
        if batch:
            await provider_receipts.count_events(self._db, batch, now=utc_now())


class SilenceMonitor:
    """Looks for providers whose receipts have stopped: one log line at each change, and a metric."""

    def __init__(self, db: Db, settings: SilenceSettings) -> None:
        self._db = db
        self._after = timedelta(seconds=settings.receipts_silent_after)
        self._attempts = settings.receipts_silent_attempts

    async def run(self) -> None:
        """Look for ever; while PostgreSQL is unavailable, the next look finds what this one missed."""
        while True:
            try:
                await self.look()
            except UNAVAILABLE_ERRORS as error:
                log.warning("silence_retrying", missing="postgres", error=type(error).__name__)
            await asyncio.sleep(_INTERVAL)

    async def look(self) -> None:
        """Look once."""
        for change in await provider_receipts.mark_silent(
            self._db, now=utc_now(), after=self._after, attempts=self._attempts
        ):
            report = log.warning if change.silent else log.info
            report(
                "receipts_stopped" if change.silent else "receipts_resumed",
                provider=str(change.provider_id),
                package=change.package,
                last_receipt_at=change.received_at.isoformat(),
                accepted_since=change.accepted_count,
            )
        silent = await provider_receipts.count_silent(self._db)
        metrics.SILENT_PROVIDERS.clear()
        for package, number in silent.items():
            metrics.SILENT_PROVIDERS.labels(package).set(number)
