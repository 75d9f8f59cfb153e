"""Cancellation of messages that no provider has received."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sluice.model.ids import millisecond_range
from sluice.store import outbox
from sluice.store.db import Db
from sluice.store.projects import ProjectScope


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The deliveries of ``message_ids`` are cancelled.

    ``events`` holds the fields of new DeliveryEvents except the destination, and the deliveries' recipients.
    """

    message_ids: frozenset[UUID]
    events: list[dict[str, Any]]
    outbox_id: int | None


async def cancel(
    db: Db, project: ProjectScope, message_ids: Sequence[UUID], *, now: datetime, outbox_retry_after: timedelta
) -> Cancelled:
    """Cancel every delivery of each message (at least one), or none: none when a provider received one of them, or may
    have. A message of another project is none.

    The rows are locked first, so that a claim and a cancellation of one delivery exclude each other. Cancelling a
    cancelled message succeeds and adds no event.
    """
    rows = await db.fetch(
        f"""
        WITH locked AS (
            SELECT id, message_id, state, in_flight, unknown_attempts
              FROM deliveries
             WHERE id BETWEEN $4 AND $5 AND message_id = ANY($1::uuid[]) AND project_id = $2 AND sandbox = $3
             ORDER BY id
               FOR UPDATE
        ), decided AS (  -- all or none of a message
            SELECT message_id
              FROM locked
             GROUP BY message_id
            HAVING bool_and(state = 'CANCELLED'
                            OR (state IN ('QUEUED', 'SENDING') AND NOT in_flight AND unknown_attempts = 0))
        ), changed AS (
            UPDATE deliveries d
               SET state = 'CANCELLED', due_at = NULL, last_event_sequence = d.last_event_sequence + 1
              FROM locked l JOIN decided v ON v.message_id = l.message_id
             WHERE d.id = l.id AND d.id BETWEEN $4 AND $5 AND l.state <> 'CANCELLED'
            RETURNING d.id, d.message_id, d.project_id, d.channel, d.recipient, d.last_event_sequence AS sequence
        ), new_events AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at)
            SELECT id, sequence, project_id, 'cancelled', 'CANCELLED', $6 FROM changed
        ), {outbox.insert_cte("changed", "$7")}
        SELECT v.message_id AS possible, c.id AS delivery_id, c.sequence, c.message_id, c.project_id, c.channel,
               c.recipient, o.id AS outbox_id
          FROM decided v LEFT JOIN changed c ON c.message_id = v.message_id LEFT JOIN outbox o ON true
        """,  # noqa: S608  constants
        list(message_ids),
        *project,
        millisecond_range(min(message_ids))[0],
        millisecond_range(max(message_ids))[1],
        now,
        now + outbox_retry_after,
    )
    cancelled = [dict(row) for row in rows if row["delivery_id"] is not None]
    outbox_id = cancelled[0]["outbox_id"] if cancelled else None
    events = [
        {name: fields[name] for name in ("delivery_id", "sequence", "message_id", "project_id", "channel", "recipient")}
        | {"type": "cancelled", "state": "CANCELLED", "occurred_at": now}
        for fields in cancelled
    ]
    return Cancelled(frozenset(row["possible"] for row in rows), events, outbox_id)


REVOKED = "revoked: the caller got 503"
"""The detail of the event that :func:`revoke_in_doubt` writes."""


async def revoke_in_doubt(db: Db, message_ids: Sequence[UUID], *, now: datetime) -> int:
    """Cancel messages that exist although their caller got 503; returns how many deliveries were cancelled.

    Their event stays in the history and is not published: for its sender there is no such message.

    Only for messages without an idempotency key: with one, the caller's repeat finds the first message.
    """
    revoked = await db.fetch(
        """
        WITH changed AS (
            UPDATE deliveries SET state = 'CANCELLED', due_at = NULL, last_event_sequence = last_event_sequence + 1
             WHERE message_id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3
               AND state = 'QUEUED' AND NOT in_flight AND attempt_count = 0
            RETURNING id, project_id, last_event_sequence
        ), new_events AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, detail)
            SELECT id, last_event_sequence, project_id, 'cancelled', 'CANCELLED', $4, $5
              FROM changed
        )
        SELECT id FROM changed
        """,
        list(message_ids),
        millisecond_range(min(message_ids))[0],
        millisecond_range(max(message_ids))[1],
        now,
        REVOKED,
    )
    return len(revoked)
