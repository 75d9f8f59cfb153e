"""Events that were settled and that the broker has not acknowledged yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sluice.store.db import Db


async def delete(db: Db, acknowledged: Sequence[int]) -> None:
    """The broker has them."""
    await db.execute("DELETE FROM announcements WHERE id = ANY($1::bigint[])", list(acknowledged))


async def claim_overdue(db: Db, *, now: datetime, retry_after: timedelta, limit: int) -> list[int]:
    """Announcements whose acknowledgement did not come in time; the next one may try after ``again``."""
    rows = await db.fetch(
        """
        WITH late AS (
            SELECT id FROM announcements WHERE due_at <= $1 ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        UPDATE announcements a SET due_at = $2 FROM late WHERE a.id = late.id RETURNING a.id
        """,
        now,
        now + retry_after,
        limit,
    )
    return [row["id"] for row in rows]


async def events_for(db: Db, outbox_id: int) -> list[dict[str, Any]]:
    """The events that an announcement covers, with what the bus says of them."""
    rows = await db.fetch(
        """
        SELECT e.delivery_id, e.number, e.kind, e.state, e.at, e.attempt, e.provider_id, e.detail, e.project_id,
               d.message_id, d.channel, a.outcome, a.started_at, a.finished_at
          FROM announcements n
         CROSS JOIN LATERAL unnest(n.delivery_ids, n.numbers) AS k (delivery_id, number)
          JOIN events e ON e.delivery_id = k.delivery_id AND e.number = k.number
          JOIN deliveries d ON d.id = e.delivery_id
          LEFT JOIN attempts a ON a.delivery_id = e.delivery_id AND a.number = e.attempt AND a.finished_at = e.at
                              AND e.kind IN ('sent', 'attempt_failed', 'failed', 'unconfirmed')
         WHERE n.id = $1
        """,
        outbox_id,
    )
    return [dict(row) for row in rows]
