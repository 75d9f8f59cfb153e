"""Messages that the sandbox has captured instead of sending them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sluice.store.db import Db


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
    db: Db, *, reference: str, message_id: UUID, recipient: str, content: str, at: datetime, timeout: float
) -> None:
    """Store a captured message; a repetition with the same reference changes nothing."""
    await db.execute(
        """
        INSERT INTO sandbox_messages (reference, project_id, message_id, channel, recipient, content, captured_at)
        SELECT $1, project_id, id, channel, $3, $4, $5 FROM messages WHERE id = $2
        ON CONFLICT DO NOTHING
        """,
        reference,
        message_id,
        recipient,
        content,
        at,
        timeout=timeout,
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
