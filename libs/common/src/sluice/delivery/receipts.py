"""The receipt sink: writes receipts in batches and publishes their events, whatever way they came.

The gateway's receipt endpoint feeds it from webhooks, a transport that keeps a session open from that session.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import asyncpg

from sluice.delivery.outbox import OUTBOX_RETRY_AFTER, OutboxPublisher
from sluice.model import ids
from sluice.model.characters import as_storable
from sluice.model.outcome import MAX_PROVIDER_TEXT
from sluice.model.suppression import MAX_ADDRESS
from sluice.providers.contract import DeliveryReceipt
from sluice.runtime import failpoints, tracing
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.runtime.clock import utc_now
from sluice.store import receipt_tokens, receipts
from sluice.store.db import Pool, rows_of
from sluice.store.receipt_tokens import TokenUse
from sluice.store.receipts import ApplyResult, ReceiptEntry

MAX_PAYLOAD = 8192  # bytes of a receipt's raw form that are kept
_BATCH = 200  # receipts of one statement, and of one request that wait at once: those of other requests come between
_MAX_WAITING = 20_000
_SHARE = 5_000  # waiting receipts of one project: no project fills the queue of all
_MAX_AHEAD = timedelta(minutes=5)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


class ReceiptSink:
    """Takes verified receipts of one provider at a time."""

    def __init__(self, pool: Pool, outbox: OutboxPublisher) -> None:
        self._pool = pool
        self._outbox = outbox
        self._batcher: Batcher[tuple[UUID, ReceiptEntry], bool] = Batcher(
            self._write,
            name="receipts",
            size=_BATCH,
            parallel=2,
            pace=0.005,
            limit=_MAX_WAITING,
            split_on=(asyncpg.DataError, ValueError),
        )
        self._waiting: Counter[UUID] = Counter()  # receipts, by project
        self._tokens: Batcher[TokenUse, bool] = Batcher(
            self._accept_tokens,
            name="receipt_tokens",
            size=_BATCH,
            parallel=2,
            pace=0.005,
            limit=_MAX_WAITING,
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
        self,
        project_id: UUID,
        provider_id: UUID,
        found: Sequence[DeliveryReceipt],
        *,
        payload: bytes,
        received_at: datetime,
    ) -> list[bool]:
        """Which receipts belong to an attempt at this provider; those are written. ``payload``: the whole request.

        Raises:
            QueueFullError: too many receipts wait to be written, of this project or of all; the first ones of
                ``found`` may be written.
            asyncpg's or the network's errors (``UNAVAILABLE_ERRORS``): PostgreSQL is away; the receipts may be sent
                again, a repeat changes nothing.
        """
        known: list[bool] = []
        for start in range(0, len(found), _BATCH):
            part = found[start : start + _BATCH]
            entries = [_entry(provider_id, receipt, payload, received_at) for receipt in part]
            written = iter(await self._submit(project_id, [entry for entry in entries if entry is not None]))
            known += [entry is not None and next(written) for entry in entries]
        return known

    async def _submit(self, project_id: UUID, entries: Sequence[ReceiptEntry]) -> Sequence[bool]:
        if self._waiting[project_id] + len(entries) > _SHARE:
            raise QueueFullError(f"receipts: {_SHARE} of one project are waiting")
        self._waiting[project_id] += len(entries)
        try:
            return await asyncio.gather(*[self._batcher.submit((project_id, entry)) for entry in entries])
        finally:
            self._waiting[project_id] -= len(entries)
            if not self._waiting[project_id]:
                del self._waiting[project_id]

    async def _accept_tokens(self, batch: Sequence[TokenUse]) -> Sequence[bool]:
        return await receipt_tokens.accept(self._pool, batch, now=utc_now())

    async def _write(self, batch: Sequence[tuple[UUID, ReceiptEntry]]) -> list[bool]:
        entries = [entry for _, entry in batch]
        assert failpoints.hit("receipts.before_write")
        async with rows_of(self._pool, {project_id for project_id, _ in batch}) as db:
            applied = await receipts.apply(db, entries, now=utc_now(), outbox_retry_after=OUTBOX_RETRY_AFTER)
        assert failpoints.hit("receipts.written")
        if applied.outbox_id is not None:
            self._outbox.publish_events(applied.outbox_id, applied.events)
            _trace(applied)
        return applied.known


def _trace(applied: ApplyResult) -> None:
    """A span for each receipt of a traced message; it has no duration, because a batch is written at once."""
    for fields, traceparent in zip(applied.events, applied.traceparents, strict=True):
        with tracing.child("receipt", traceparent) as span:
            if span.traceparent is not None:
                span.set(
                    message=ids.encode_id("msg", fields["message_id"]),
                    delivery=str(fields["delivery_id"]),
                    attempt=fields["attempt"],
                    provider=str(fields["provider_id"]),
                    type=fields["type"],
                    reason=fields["reason"],
                )


def _entry(provider_id: UUID, receipt: DeliveryReceipt, payload: bytes, received_at: datetime) -> ReceiptEntry | None:
    """The receipt as it is stored; None when it names neither an attempt nor a message id."""
    delivery_id, attempt = _attempt(receipt)
    if delivery_id is None and not receipt.provider_message_id:
        return None
    return ReceiptEntry(
        delivery_id=delivery_id,
        attempt=attempt,
        provider_id=provider_id,
        provider_message_id=as_storable(receipt.provider_message_id or "", MAX_PROVIDER_TEXT) or None,
        receipt_id=as_storable(receipt.receipt_id, 255),
        type=receipt.type,
        occurred_at=_plausible(receipt.occurred_at, delivery_id, received_at),
        reason=receipt.reason,
        detail=as_storable(receipt.detail, 500),
        recipient=_text(receipt.recipient, MAX_ADDRESS),
        payload=as_storable((receipt.payload or payload)[:MAX_PAYLOAD].decode("utf-8", "replace"), MAX_PAYLOAD),
    )


def _text(text: str | None, limit: int) -> str | None:
    """Text of a provider as PostgreSQL stores it; None for one that is empty or longer."""
    return as_storable(text, limit) if text and len(text) <= limit else None


def _plausible(occurred_at: datetime | None, delivery_id: UUID | None, received_at: datetime) -> datetime:
    """The provider's time, not before the delivery was created and at most five minutes ahead.

    Any time that a package can parse is compared in UTC, where it may lie outside of what Python can represent.
    """
    if occurred_at is None:
        return received_at
    try:
        earliest = ids.created_at_of(delivery_id) if delivery_id else _EARLIEST
        return min(max(occurred_at.astimezone(UTC), earliest), received_at + _MAX_AHEAD)
    except OverflowError:
        return received_at


def _attempt(receipt: DeliveryReceipt) -> tuple[UUID, int] | tuple[None, None]:
    try:
        return ids.parse_attempt_reference(receipt.reference or "")
    except ids.InvalidIdError:  # the provider returned none, or one of another installation
        return None, None
