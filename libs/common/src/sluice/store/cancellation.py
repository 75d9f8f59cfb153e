"""Taking messages back, while nothing of them was handed to a provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sluice.model.ids import millisecond_range
from sluice.store.db import Db


@dataclass(frozen=True, slots=True)
class Cancelled:
    """All deliveries of the message are cancelled now; ``events`` are fields of DeliveryEvents that say so."""

    events: list[dict[str, Any]]
    outbox_id: int | None


async def cancel(
    db: Db, project_id: UUID, message_id: UUID, *, now: datetime, outbox_retry_after: timedelta
) -> Cancelled | None:
    """Cancel every delivery of a message, or none: None when one was handed over, or may have been.

    The rows are locked first, so that a claim and a cancel of one delivery exclude each other. Cancelling what is
    cancelled already succeeds and adds nothing.
    """
    rows = await db.fetch(
        """
        WITH mine AS (
            SELECT id, state, in_flight, ambiguous
              FROM deliveries
             WHERE id BETWEEN $3 AND $4 AND message_id = $1 AND project_id = $2
             ORDER BY id
               FOR UPDATE
        ), verdict AS (
            SELECT bool_and(state = 'CANCELLED'
                            OR (state IN ('QUEUED', 'SENDING') AND NOT in_flight AND ambiguous = 0)) AS possible
              FROM mine
        ), moved AS (
            UPDATE deliveries d
               SET state = 'CANCELLED', due_at = NULL, events = d.events + 1
              FROM mine m, verdict v
             WHERE d.id = m.id AND d.id BETWEEN $3 AND $4 AND v.possible AND m.state <> 'CANCELLED'
            RETURNING d.id, d.message_id, d.project_id, d.channel, d.events AS number
        ), history AS (
            INSERT INTO events (delivery_id, number, project_id, kind, state, at)
            SELECT id, number, project_id, 'cancelled', 'CANCELLED', $5 FROM moved
        ), covered AS (
            INSERT INTO announcements (due_at, delivery_ids, numbers)
            SELECT $6, array_agg(id), array_agg(number) FROM moved HAVING count(*) > 0
            RETURNING id
        )
        SELECT v.possible, m.id AS delivery_id, m.number, m.message_id, m.project_id, m.channel, c.id AS announcement
          FROM verdict v LEFT JOIN moved m ON true LEFT JOIN covered c ON true
        """,
        message_id,
        project_id,
        *millisecond_range(message_id),
        now,
        now + outbox_retry_after,
    )
    if not rows or not rows[0]["possible"]:
        return None
    moved = [dict(row) for row in rows if row["delivery_id"] is not None]
    announcement = moved[0]["announcement"] if moved else None
    events = [
        {name: fields[name] for name in ("delivery_id", "number", "message_id", "project_id", "channel")}
        | {"kind": "cancelled", "state": "CANCELLED", "at": now}
        for fields in moved
    ]
    return Cancelled(events, announcement)


async def revoke_in_doubt(db: Db, message_ids: Sequence[UUID], *, now: datetime) -> int:
    """Cancel messages whose caller was told that nothing was accepted, if they exist after all; returns how many.

    Only for messages without an idempotency key: with one, the caller's repeat finds what was recorded.
    """
    moved = await db.fetch(
        """
        WITH moved AS (
            UPDATE deliveries SET state = 'CANCELLED', due_at = NULL, events = events + 1
             WHERE message_id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3
               AND state = 'QUEUED' AND NOT in_flight AND attempts = 0
            RETURNING id, project_id, events
        ), history AS (
            INSERT INTO events (delivery_id, number, project_id, kind, state, at, detail)
            SELECT id, events, project_id, 'cancelled', 'CANCELLED', $4, 'withdrawn: the caller was told 503' FROM moved
        )
        SELECT id FROM moved
        """,
        list(message_ids),
        millisecond_range(min(message_ids))[0],
        millisecond_range(max(message_ids))[1],
        now,
    )
    return len(moved)
