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
    """No delivery of ``message_ids`` is open any more.

    ``events`` holds the fields of new DeliveryEvents except the destination, and the deliveries' recipients.
    """

    message_ids: frozenset[UUID]
    events: list[dict[str, Any]]
    outbox_id: int | None


async def cancel(
    db: Db, project: ProjectScope, message_ids: Sequence[UUID], *, now: datetime, outbox_retry_after: timedelta
) -> Cancelled:
    """Cancel the open deliveries of each message (at least one), or none: none when a provider received a delivery of
    it, or may have, and none when every delivery has ended. A message of another project is none.

    A delivery that ended without a provider keeps its state: its recipient was suppressed, it expired, or every call
    was refused. Cancelling a cancelled message succeeds and adds no event. ``db`` is in a transaction.
    """
    of_messages = "id BETWEEN $4 AND $5 AND message_id = ANY($1::uuid[]) AND project_id = $2 AND sandbox = $3"
    arguments = (
        list(message_ids),
        *project,
        millisecond_range(min(message_ids))[0],
        millisecond_range(max(message_ids))[1],
    )
    # The rows are locked first, so that a claim and a cancellation of one delivery exclude each other. What decides is
    # read by the next statement: while this one waits for a lock, attempts end and deliveries are divided. A row that
    # is not among the locked ones is of such a division, and may be claimed now.
    locked = await db.fetch(f"SELECT id FROM deliveries WHERE {of_messages} ORDER BY id FOR UPDATE", *arguments)  # noqa: S608
    rows = await db.fetch(
        f"""
        WITH judged AS (
            SELECT id, message_id, state IN ('QUEUED', 'SENDING') AS is_open, state = 'CANCELLED' AS is_cancelled,
                   id = ANY($8::uuid[]) AND NOT in_flight AND unknown_attempts = 0
                   AND (state IN ('QUEUED', 'SENDING', 'CANCELLED')
                        OR state IN ('FAILED', 'EXPIRED')
                           AND NOT EXISTS (SELECT FROM attempts a WHERE a.delivery_id = deliveries.id
                                              AND (a.outcome IS NULL OR a.outcome IN ('accepted', 'unknown'))))
                   AS without_provider
              FROM deliveries
             WHERE {of_messages}
        ), decided AS (  -- all or none of a message
            SELECT message_id
              FROM judged
             GROUP BY message_id
            HAVING bool_and(without_provider) AND bool_or(is_open OR is_cancelled)
        ), changed AS (
            UPDATE deliveries d
               SET state = 'CANCELLED', due_at = NULL, last_event_sequence = d.last_event_sequence + 1
              FROM judged j JOIN decided v ON v.message_id = j.message_id
             WHERE d.id = j.id AND d.id BETWEEN $4 AND $5 AND j.is_open
            RETURNING d.id, d.message_id, d.project_id, d.channel, d.recipient, d.last_event_sequence AS sequence
        ), new_events AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at)
            SELECT id, sequence, project_id, 'cancelled', 'CANCELLED', $6 FROM changed
        ), {outbox.insert_cte("changed", "$7")}
        SELECT v.message_id AS possible, c.id AS delivery_id, c.sequence, c.message_id, c.project_id, c.channel,
               c.recipient, o.id AS outbox_id
          FROM decided v LEFT JOIN changed c ON c.message_id = v.message_id LEFT JOIN outbox o ON true
        """,  # noqa: S608  constants
        *arguments,
        now,
        now + outbox_retry_after,
        [row["id"] for row in locked],
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
