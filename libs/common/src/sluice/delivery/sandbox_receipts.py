"""Receipts of the sandbox for messages to magic recipients, written some time after the attempt."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from sluice.bus.publisher import Publisher
from sluice.delivery.outbox import OutboxPublisher
from sluice.delivery.receipts import ReceiptSink
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.providers.contract import DeliveryReceipt
from sluice.runtime.batching import QueueFullError
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import sandbox
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.sandbox import DueReceipts

log = structlog.get_logger()

_INTERVAL = 0.5  # seconds between two looks for due receipts
_REASONS = {EventType.BOUNCED: Reason.UNKNOWN_RECIPIENT, EventType.SOFT_BOUNCE: Reason.FULL}
_DETAIL = "the sandbox's receipt for this magic recipient"


@asynccontextmanager
async def open_sandbox_receipts(pool: Pool, publisher: Publisher) -> AsyncIterator[None]:
    """Write due receipts until the block ends."""
    async with OutboxPublisher(pool, publisher).running() as outbox, ReceiptSink(pool, outbox).running() as sink:
        loop = supervised(_run(pool, sink), name="sandbox-receipts")
        try:
            yield
        finally:
            await cancel_and_wait(loop)


async def _run(pool: Pool, sink: ReceiptSink) -> None:
    while True:
        try:
            await write_due_receipts(pool, sink, now=utc_now())
        except QueueFullError:  # they fall due again
            log.warning("sandbox_receipts_delayed", error="QueueFullError")
        except UNAVAILABLE_ERRORS as error:
            log.warning("sandbox_receipts_delayed", error=type(error).__name__)
        await asyncio.sleep(_INTERVAL)


async def write_due_receipts(pool: Pool, sink: ReceiptSink, *, now: datetime) -> int:
    """Write the receipts that are due at ``now``, at most a batch of them; how many messages they are about.

    Raises:
        QueueFullError, asyncpg's or the network's errors: nothing is lost, they fall due again.
    """
    due = await sandbox.lease_due_receipts(pool, now=now)
    if due:
        receipts: dict[UUID, list[DeliveryReceipt]] = defaultdict(list)
        for one in due:
            receipts[one.project_id] += _receipts(one, now)
        written = (
            sink.accept(project_id, SANDBOX_PROVIDER_ID, found, payload=b"", received_at=now)
            for project_id, found in receipts.items()
        )
        await asyncio.gather(*written)
        await sandbox.finish_receipts(pool, [one.reference for one in due])
    return len(due)


def _receipts(due: DueReceipts, now: datetime) -> list[DeliveryReceipt]:
    return [
        DeliveryReceipt(
            receipt_id=f"{due.reference}:{kind}",
            type=EventType(kind),
            reference=due.reference,
            occurred_at=now + timedelta(milliseconds=place),
            reason=_REASONS.get(EventType(kind)),
            detail=_DETAIL,
        )
        for place, kind in enumerate(due.receipts)
    ]
