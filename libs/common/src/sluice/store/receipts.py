"""Receipts into the record: each counts once, only for an attempt that was made at that provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sluice.model.state import SETTLED, STATE_ASSERTED_BY, EventType, State
from sluice.store.db import Db

_RANKED_STATES = [state.value for state in State]
_SETTLED_STATES = [state.value for state in SETTLED]


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """A genuine receipt about attempt ``attempt`` of a delivery at a provider."""

    delivery_id: UUID
    attempt: int
    provider_id: UUID
    receipt_id: str
    type: EventType
    occurred_at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of a batch: which statements were about an attempt that exists, and the events they made."""

    known: list[bool]  # in the batch's order
    events: list[dict[str, Any]]  # fields of a DeliveryEvent
    outbox_id: int | None


async def apply(db: Db, batch: Sequence[ReceiptEntry], *, now: datetime, outbox_retry_after: timedelta) -> ApplyResult:
    """Write a batch of receipts in one statement.

    A negative statement about an attempt that has been followed by another moves nothing: the newer one decides.
    A delivery that waits after an ambiguous attempt is settled by a statement that it was taken; a statement that the
    provider dropped it makes it due at once, because now it is known that it may be sent again.
    """
    rows = await db.fetch(
        """
        WITH got AS (
            SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                                 $7::timestamptz[], $8::text[])
                     WITH ORDINALITY
                AS g (delivery_id, attempt, provider_id, receipt_id, kind, state, at, detail, position)
             LIMIT cardinality($1)  -- see sluice.store.db
        ), known AS (
            SELECT g.*, a.project_id
              FROM got g
              JOIN attempts a ON a.delivery_id = g.delivery_id AND a.number = g.attempt
                             AND a.provider_id = g.provider_id
        ), fresh AS (
            INSERT INTO receipts AS r (delivery_id, provider_id, receipt_id, project_id, attempt, kind, received_at)
            SELECT DISTINCT ON (delivery_id, provider_id, receipt_id)
                   delivery_id, provider_id, receipt_id, project_id, attempt, kind, $11
              FROM known ORDER BY delivery_id, provider_id, receipt_id, position
            ON CONFLICT DO NOTHING
            RETURNING r.delivery_id, r.provider_id, r.receipt_id
        ), locked AS (
            SELECT d.id, d.attempts, d.state, d.in_flight, d.ambiguous
              FROM deliveries d
             WHERE d.id IN (SELECT delivery_id FROM fresh)
             ORDER BY d.id
               FOR UPDATE
        ), counted AS (
            SELECT DISTINCT ON (k.delivery_id, k.provider_id, k.receipt_id)
                   k.*, l.attempts, l.in_flight,
                   l.state NOT IN ('QUEUED', 'SENDING') AS was_quiet,
                   CASE WHEN k.kind IN ('failed', 'bounced', 'soft_bounce')
                             AND (k.attempt < l.attempts
                                  OR (k.kind = 'failed' AND l.state = 'SENDING' AND NOT l.in_flight))
                        THEN NULL ELSE k.state END AS counts
              FROM known k
              JOIN fresh USING (delivery_id, provider_id, receipt_id)
              JOIN locked l ON l.id = k.delivery_id
             ORDER BY k.delivery_id, k.provider_id, k.receipt_id, k.position
        ), numbered AS (
            SELECT c.*, row_number() OVER (PARTITION BY delivery_id ORDER BY at, position) AS nth FROM counted c
        ), per AS (
            SELECT delivery_id, count(*) AS n, max(array_position($9::text[], counts)) AS rank,
                   bool_or(kind = 'failed' AND counts IS NULL AND attempt = attempts AND NOT in_flight
                           AND NOT was_quiet) AS dropped
              FROM numbered GROUP BY delivery_id
        ), moved AS (
            UPDATE deliveries d
               SET state = CASE WHEN p.rank > array_position($9::text[], d.state) THEN ($9::text[])[p.rank]
                                ELSE d.state END,
                   events = d.events + p.n,
                   due_at = CASE WHEN d.in_flight THEN d.due_at
                                 WHEN ($9::text[])[p.rank] = ANY($10::text[]) OR d.state = ANY($10::text[]) THEN NULL
                                 WHEN p.dropped THEN $11
                                 ELSE d.due_at END
              FROM per p
             WHERE d.id = p.delivery_id
            RETURNING d.id, d.message_id, d.project_id, d.channel, d.events - p.n AS before
        ), history AS (
            INSERT INTO events (delivery_id, number, project_id, kind, state, at, attempt, provider_id, detail)
            SELECT n.delivery_id, m.before + n.nth, m.project_id, n.kind, n.counts, n.at, n.attempt, n.provider_id,
                   n.detail
              FROM numbered n JOIN moved m ON m.id = n.delivery_id
            RETURNING delivery_id, number, kind, state, at, attempt, provider_id, detail
        ), covered AS (
            INSERT INTO announcements (due_at, delivery_ids, numbers)
            SELECT $12, array_agg(delivery_id), array_agg(number) FROM history HAVING count(*) > 0
            RETURNING id
        )
        SELECT NULL::bigint AS position, h.*, m.message_id, m.project_id, m.channel, c.id AS announcement
          FROM history h JOIN moved m ON m.id = h.delivery_id CROSS JOIN covered c
         UNION ALL
        SELECT position, delivery_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM known
        """,
        [one.delivery_id for one in batch],
        [one.attempt for one in batch],
        [one.provider_id for one in batch],
        [one.receipt_id for one in batch],
        [one.type.value for one in batch],
        [STATE_ASSERTED_BY[one.type] for one in batch],
        [one.occurred_at for one in batch],
        [one.detail for one in batch],
        _RANKED_STATES,
        _SETTLED_STATES,
        now,
        now + outbox_retry_after,
    )
    known = {row["position"] for row in rows if row["position"] is not None}
    made = [dict(row) for row in rows if row["position"] is None]
    announcement = made[0]["announcement"] if made else None
    for fields in made:
        del fields["position"], fields["announcement"]
    return ApplyResult([position in known for position in range(1, len(batch) + 1)], made, announcement)
