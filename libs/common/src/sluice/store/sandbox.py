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


# The message's own row decides, as with a claim: also a live SMS is captured, where the operator has no link.
_MODE = "(SELECT m.sandbox FROM messages m WHERE m.id = c.message_id)"


@dataclass(frozen=True, slots=True)
class CapturedMessage:
    """One captured message. ``sandbox``: whether it is of a test message; None once that was deleted."""

    reference: str
    project_id: UUID
    message_id: UUID
    channel: str
    recipient: str
    content: str  # JSON
    captured_at: datetime
    sandbox: bool | None


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


class Place(NamedTuple):
    """The place of a captured message in the list, which begins with the newest."""

    captured_at: datetime
    reference: str


async def list_captured(
    db: Db,
    *,
    project_id: UUID | None,
    limit: int,
    before: Place | None = None,
    channel: str | None = None,
    recipient: str | None = None,
    since: datetime | None = None,
    sandbox: bool | None = None,
) -> list[CapturedMessage]:
    """The newest captured messages of one project or of all, those behind ``before``.

    ``recipient``: a text that the recipients of the message contain, in upper or lower case.
    ``sandbox``: those of test messages or of live ones only.
    """
    rows = await db.fetch(
        f"""
        SELECT reference, project_id, message_id, channel, recipient, content, captured_at, {_MODE} AS sandbox
          FROM sandbox_messages c
         WHERE ($1::uuid IS NULL OR project_id = $1) AND ($2::text IS NULL OR channel = $2)
           AND ($3::text IS NULL OR strpos(lower(recipient), lower($3)) > 0)
           AND ($4::timestamptz IS NULL OR captured_at >= $4)
           AND ($5::timestamptz IS NULL OR (captured_at, reference) < ($5, $6))
           AND ($7::boolean IS NULL OR {_MODE} = $7)
         ORDER BY captured_at DESC, reference DESC LIMIT $8
        """,  # noqa: S608  a constant
        *(project_id, channel, recipient, since, *(before or (None, None)), sandbox, limit),
    )
    return [CapturedMessage(**row) for row in rows]


async def find_captured(
    db: Db, project_id: UUID, reference: str, *, sandbox: bool | None = None
) -> CapturedMessage | None:
    """One captured message of a project; ``sandbox`` as in :func:`list_captured`."""
    row = await db.fetchrow(
        f"""
        SELECT reference, project_id, message_id, channel, recipient, content, captured_at, {_MODE} AS sandbox
          FROM sandbox_messages c
         WHERE project_id = $1 AND reference = $2 AND ($3::boolean IS NULL OR {_MODE} = $3)
        """,  # noqa: S608  a constant
        project_id,
        reference,
        sandbox,
    )
    return None if row is None else CapturedMessage(**row)


async def delete_captured(db: Db, project_id: UUID, *, sandbox: bool | None = None, at_most: int = 10_000) -> int:
    """Delete captured messages of a project, but for those whose receipts are due; their number.

    ``sandbox`` as in :func:`list_captured`.
    """
    result = await db.execute(
        f"""
        DELETE FROM sandbox_messages WHERE reference IN (
            SELECT reference FROM sandbox_messages c
             WHERE project_id = $1 AND receipts_due_at IS NULL AND ($2::boolean IS NULL OR {_MODE} = $2) LIMIT $3)
        """,  # noqa: S608  a constant
        project_id,
        sandbox,
        at_most,
    )
    return int(result.rpartition(" ")[2])
