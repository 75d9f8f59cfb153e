"""The event outbox: settled events that Kafka has not acknowledged yet. One row covers a batch of events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sluice.store.db import Db


def insert_cte(events: str, retry_at: str, *, delivery_id: str = "id") -> str:
    """The CTE ``outbox (id)`` that covers the new events of the CTE ``events`` with one row.

    ``retry_at`` is the parameter with the time of the first retry, such as ``$6``. ``delivery_id`` is the column of
    ``events`` with the delivery's id; the other column that it reads is ``sequence``. Without events it inserts no row.
    """
    return f"""outbox AS (
            INSERT INTO event_outbox (retry_at, delivery_ids, sequences)
            SELECT {retry_at}, array_agg({delivery_id}), array_agg(sequence) FROM {events} HAVING count(*) > 0
            RETURNING id
        )"""  # noqa: S608  names of this package


async def delete(db: Db, acknowledged: Sequence[int]) -> None:
    """Delete outbox rows whose events Kafka has acknowledged."""
    await db.execute("DELETE FROM event_outbox WHERE id = ANY($1::bigint[])", list(acknowledged))


async def claim_overdue(db: Db, *, retry_after: timedelta, limit: int, now: datetime | None = None) -> list[int]:
    """Ids of outbox rows whose ``retry_at`` has passed; another process may retry them after ``retry_after``."""
    rows = await db.fetch(
        """
        WITH overdue AS (
            SELECT id FROM event_outbox WHERE retry_at <= coalesce($1::timestamptz, now())
             ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        UPDATE event_outbox o SET retry_at = coalesce($1::timestamptz, now()) + $2::interval
          FROM overdue WHERE o.id = overdue.id RETURNING o.id
        """,
        now,
        retry_after,
        limit,
    )
    return [row["id"] for row in rows]


async def oldest_age(db: Db) -> float:
    """Seconds since the oldest row was written; 0 if there is none."""
    age: float | None = await db.fetchval(
        "SELECT extract(epoch FROM now() - created_at)::float8 FROM event_outbox ORDER BY id LIMIT 1"
    )
    return max(0.0, age or 0.0)


async def events_for(db: Db, outbox_id: int) -> list[dict[str, Any]]:
    """The events that an outbox row covers, with the fields of a :class:`~sluice.bus.messages.DeliveryEvent` except
    the destination, and the delivery's recipient.
    """
    rows = await db.fetch(
        """
        SELECT e.delivery_id, e.sequence, e.type, e.state, e.occurred_at, e.attempt, e.provider_id, e.reason,
               e.detail, e.project_id, d.message_id, d.channel, d.recipient, a.outcome, a.scope, a.retry_after_s,
               a.duration_ms
          FROM event_outbox o
         CROSS JOIN LATERAL unnest(o.delivery_ids, o.sequences) AS k (delivery_id, sequence)
          JOIN events e ON e.delivery_id = k.delivery_id AND e.sequence = k.sequence
          JOIN deliveries d ON d.id = e.delivery_id
          LEFT JOIN attempts a ON a.delivery_id = e.delivery_id AND a.number = e.attempt
                              AND a.finished_at = e.occurred_at
                              AND e.type IN ('sent', 'attempt_failed', 'failed', 'unconfirmed')
         WHERE o.id = $1
        """,
        outbox_id,
    )
    return [dict(row) for row in rows]
