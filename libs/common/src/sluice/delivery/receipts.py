"""The receipt sink: writes receipts in batches and publishes their events, whatever way they came.

The gateway's receipt endpoint feeds it from webhooks, a transport that keeps a session open from that session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from uuid import UUID

import asyncpg

from sluice.delivery.outbox import OUTBOX_RETRY_AFTER, OutboxPublisher
from sluice.model import ids
from sluice.model.suppression import MAX_ADDRESS
from sluice.providers.contract import DeliveryReceipt
from sluice.runtime import failpoints
from sluice.runtime.batching import Batcher
from sluice.runtime.clock import utc_now
from sluice.store import receipt_tokens, receipts
from sluice.store.db import Db
from sluice.store.receipt_tokens import TokenUse
from sluice.store.receipts import ReceiptEntry

MAX_PAYLOAD = 8192  # bytes of a receipt's raw form that are kept


class ReceiptSink:
    """Takes verified receipts of one provider at a time."""

    def __init__(self, db: Db, outbox: OutboxPublisher) -> None:
        self._db = db
        self._outbox = outbox
        self._batcher: Batcher[ReceiptEntry, bool] = Batcher(
            self._write,
            name="receipts",
            size=200,
            parallel=2,
            pace=0.005,
            limit=20_000,
            split_on=(asyncpg.DataError, ValueError),
        )

        self._tokens: Batcher[TokenUse, bool] = Batcher(
            self._accept_tokens,
            name="receipt_tokens",
            size=200,
            parallel=2,
            pace=0.005,
            limit=20_000,
            split_on=(asyncpg.DataError, ValueError),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ReceiptSink]:
        """Write until the block ends."""
        async with self._tokens.running(), self._batcher.running():
            yield self

    async def accept_token(self, provider_id: UUID, token: str, body: bytes) -> bool:
        """Whether the token, which the provider signs in place of the body, comes with the body of its first use.

        Raises:
            QueueFullError, asyncpg's or the network's errors: as :meth:`accept`.
        """
        return await self._tokens.submit(TokenUse(provider_id, token, sha256(body).digest()))

    async def accept(
        self, provider_id: UUID, found: Sequence[DeliveryReceipt], *, payload: bytes, received_at: datetime
    ) -> list[bool]:
        """Which receipts belong to an attempt at this provider; those are written. ``payload``: the whole request.

        Raises:
            QueueFullError: too many receipts wait to be written.
            asyncpg's or the network's errors (``UNAVAILABLE_ERRORS``): PostgreSQL is away; the receipts may be sent
                again, a repeat changes nothing.
        """
        entries = [_entry(provider_id, receipt, payload, received_at) for receipt in found]
        results = [None if entry is None else self._batcher.submit(entry) for entry in entries]
        return [False if result is None else await result for result in results]

    async def _accept_tokens(self, batch: Sequence[TokenUse]) -> Sequence[bool]:
        return await receipt_tokens.accept(self._db, batch, now=utc_now())

    async def _write(self, batch: Sequence[ReceiptEntry]) -> list[bool]:
        assert failpoints.hit("receipts.before_write")
        applied = await receipts.apply(self._db, batch, now=utc_now(), outbox_retry_after=OUTBOX_RETRY_AFTER)
        assert failpoints.hit("receipts.written")
        if applied.outbox_id is not None:
            self._outbox.publish_events(applied.outbox_id, applied.events)
        return applied.known


def _entry(provider_id: UUID, receipt: DeliveryReceipt, payload: bytes, received_at: datetime) -> ReceiptEntry | None:
    """The receipt as it is stored; None when it names neither an attempt nor a message id."""
    delivery_id, attempt = _attempt(receipt)
    if delivery_id is None and not receipt.provider_message_id:
        return None
    return ReceiptEntry(
        delivery_id=delivery_id,
        attempt=attempt,
        provider_id=provider_id,
        provider_message_id=receipt.provider_message_id,
        receipt_id=receipt.receipt_id[:255],
        type=receipt.type,
        occurred_at=receipt.occurred_at or received_at,
        reason=receipt.reason,
        detail=receipt.detail.replace("\x00", "")[:500],
        recipient=_text(receipt.recipient, MAX_ADDRESS),
        payload=(receipt.payload or payload)[:MAX_PAYLOAD].decode("utf-8", "replace").replace("\x00", ""),
    )


def _text(text: str | None, limit: int) -> str | None:
    """Text of a provider as PostgreSQL stores it; None for one that is empty or longer."""
    if not text or len(text) > limit or "\x00" in text:
        return None
    return text.encode("utf-8", "replace").decode()


def _attempt(receipt: DeliveryReceipt) -> tuple[UUID, int] | tuple[None, None]:
    try:
        return ids.parse_attempt_reference(receipt.reference or "")
    except ids.InvalidIdError:  # the provider returned none, or one of another installation
        return None, None
