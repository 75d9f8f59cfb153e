"""Messages that the sandbox has captured instead of sending them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.store.db import Db

RECEIPT_DELAY = timedelta(seconds=0.5)  # after the capture
_RECEIPT_LEASE = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class CapturedMessage:
    """One captured message."""

    reference: str
    project_id: UUID
    message_id: UUID
    channel: str
    recipient: str
    content: str  # JSON
    captured_at: datetime


async def capture(
    db: Db,
    *,
    reference: str,
    message_id: UUID,
    recipient: str,
    content: str,
    at: datetime,
    timeout: float,
    receipts: Sequence[str] = (),
) -> None:
    """Store a captured message; a repetition with the same reference changes nothing.

    ``receipts``: the types of the receipts that follow after :data:`RECEIPT_DELAY`, of a magic recipient.
    """
    await db.execute(
        """
        INSERT INTO sandbox_messages (reference, project_id, message_id, channel, recipient, content, captured_at,
                                      receipts, receipts_due_at)
        SELECT $1, project_id, id, channel, $3, $4, $5, $6, $7 FROM messages WHERE id = $2
        ON CONFLICT DO NOTHING
        """,
        reference,
        message_id,
        recipient,
        content,
        at,
        list(receipts),
        at + RECEIPT_DELAY if receipts else None,
        timeout=timeout,
    )


class DueReceipts(NamedTuple):
    """The receipts of one captured message that are due, by type, in order."""

    project_id: UUID
    reference: str
    receipts: Sequence[str]


async def lease_due_receipts(db: Db, *, now: datetime, limit: int = 500) -> list[DueReceipts]:
    """Receipts that are due, for this process; they fall due again if it does not finish them in time."""
    rows = await db.fetch(
        """
        UPDATE sandbox_messages SET receipts_due_at = $2
         WHERE reference IN (
               SELECT reference FROM sandbox_messages WHERE receipts_due_at <= $1
                ORDER BY receipts_due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
        RETURNING project_id, reference, receipts
        """,
        now,
        now + _RECEIPT_LEASE,
        limit,
    )
    return [DueReceipts(row["project_id"], row["reference"], row["receipts"]) for row in rows]


async def finish_receipts(db: Db, references: Sequence[str]) -> None:
    """The receipts of these messages are written."""
    await db.execute(
        "UPDATE sandbox_messages SET receipts_due_at = NULL WHERE reference = ANY($1::text[])", list(references)
    )


async def list_captured(db: Db, *, project_id: UUID | None, limit: int) -> list[CapturedMessage]:
    """The newest captured messages of one project or of all."""
    rows = await db.fetch(
        """
        SELECT reference, project_id, message_id, channel, recipient, content, captured_at
          FROM sandbox_messages WHERE $1::uuid IS NULL OR project_id = $1
         ORDER BY captured_at DESC LIMIT $2
        """,
        project_id,
        limit,
    )
    return [CapturedMessage(**row) for row in rows]
