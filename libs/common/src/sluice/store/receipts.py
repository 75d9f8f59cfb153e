"""Receipts: each counts once, and only for an attempt that was made at that provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.reasons import Reason
from sluice.model.state import RANKED_STATES, SETTLED_STATES, STATE_ASSERTED_BY, EventType
from sluice.store import outbox
from sluice.store.db import Db, Pool


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """A genuine receipt: about an attempt of a delivery, or about the attempt that ``provider_message_id`` leads to."""

    delivery_id: UUID | None
    attempt: int | None
    provider_id: UUID
    receipt_id: str
    type: EventType
    occurred_at: datetime
    provider_message_id: str | None = None
    reason: Reason | None = None
    detail: str = ""
    payload: str = ""
    recipient: str | None = None  # of several recipients of one envelope, whom it is about


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """The result of a batch: which receipts belong to an existing attempt, and the new events."""

    known: list[bool]  # in the batch's order
    events: list[dict[str, Any]]  # fields of a DeliveryEvent except the destination, and the delivery's recipient
    outbox_id: int | None
    traceparents: list[str | None]  # of the deliveries of ``events``


# The first id whose content the project p still keeps at the time $11; null: it keeps all. By age, and not by what is
# erased already: retention waits until every statement has ended that still saw a younger delivery.
_ERASED_TO = """
    (lpad(to_hex((1000 * extract(epoch FROM greatest(
         p.contents_erased_to, $11::timestamptz - make_interval(days => p.content_retention_days))))::bigint), 12, '0')
     || repeat('0', 20))::uuid
"""


async def apply(db: Db, batch: Sequence[ReceiptEntry], *, now: datetime, outbox_retry_after: timedelta) -> ApplyResult:
    """Write a batch of receipts in one statement.

    A negative receipt about an attempt that was followed by another moves nothing: the newer attempt decides. A
    delivery that waits after an unknown outcome is settled by a receipt that the message was taken; a receipt that the
    provider dropped it makes it due at once, because it may be sent again. A receipt that comes when the content of its
    message is due to be erased is written without its payload.
    """
    rows = await db.fetch(
        f"""
        WITH received AS (
            SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                                 $7::timestamptz[], $8::text[], $13::text[], $14::text[], $15::text[], $16::text[])
                     WITH ORDINALITY
                AS r (delivery_id, attempt, provider_id, receipt_id, type, state, occurred_at, detail,
                      provider_message_id, reason, payload, recipient, position)
             LIMIT cardinality($3)  -- see sluice.store.db
        ), located AS (  -- with the attempt that they name, or that their message id leads to (the newest)
            SELECT coalesce(r.delivery_id, i.delivery_id) AS delivery_id, coalesce(r.attempt, i.attempt) AS attempt,
                   r.provider_id, r.receipt_id, r.type, r.state, r.occurred_at, r.detail, r.reason, r.payload,
                   r.recipient, r.position
              FROM received r
              LEFT JOIN LATERAL (
                   SELECT i.delivery_id, i.attempt
                     FROM receipt_ids i
                    WHERE r.delivery_id IS NULL AND i.provider_id = r.provider_id
                      AND i.provider_message_id = r.provider_message_id
                    ORDER BY i.delivery_id DESC, i.attempt DESC LIMIT 1) i ON true
        ), known AS (  -- receipts whose attempt exists
            SELECT r.*, a.project_id
              FROM located r
              JOIN attempts a ON a.delivery_id = r.delivery_id AND a.number = r.attempt
                             AND a.provider_id = r.provider_id
        ), fresh AS (  -- and that are not repeats
            INSERT INTO receipts AS r (delivery_id, provider_id, receipt_id, project_id, attempt, type, received_at,
                                      payload)
            SELECT DISTINCT ON (k.delivery_id, k.provider_id, k.receipt_id)
                   k.delivery_id, k.provider_id, k.receipt_id, k.project_id, k.attempt, k.type, $11,
                   CASE WHEN k.delivery_id < {_ERASED_TO} THEN '' ELSE k.payload END
              FROM known k LEFT JOIN projects p ON p.id = k.project_id
             ORDER BY k.delivery_id, k.provider_id, k.receipt_id, k.position
            ON CONFLICT DO NOTHING
            RETURNING r.delivery_id, r.provider_id, r.receipt_id
        ), locked AS (
            SELECT d.id, d.attempt_count, d.state, d.in_flight, d.unknown_attempts
              FROM deliveries d
             WHERE d.id IN (SELECT delivery_id FROM fresh)
             ORDER BY d.id
               FOR UPDATE
        ), counted AS (  -- ``counts`` is the state that the receipt asserts, null if it asserts none
            SELECT DISTINCT ON (k.delivery_id, k.provider_id, k.receipt_id)
                   k.*, l.attempt_count, l.in_flight,
                   l.state NOT IN ('QUEUED', 'SENDING') AS was_settled,
                   CASE WHEN k.type IN ('failed', 'bounced', 'soft_bounce')
                             AND (k.attempt < l.attempt_count
                                  OR (k.type = 'failed' AND l.state = 'SENDING' AND NOT l.in_flight))
                        THEN NULL ELSE k.state END AS counts
              FROM known k
              JOIN fresh USING (delivery_id, provider_id, receipt_id)
              JOIN locked l ON l.id = k.delivery_id
             ORDER BY k.delivery_id, k.provider_id, k.receipt_id, k.position
        ), numbered AS (
            SELECT c.*, row_number() OVER (PARTITION BY delivery_id ORDER BY occurred_at, position) AS nth
              FROM counted c
        ), per_delivery AS (
            SELECT delivery_id, count(*) AS n, max(array_position($9::text[], counts)) AS rank,
                   bool_or(type = 'failed' AND counts IS NULL AND attempt = attempt_count AND NOT in_flight
                           AND NOT was_settled) AS dropped
              FROM numbered GROUP BY delivery_id
        ), changed AS (
            UPDATE deliveries d
               SET state = CASE WHEN p.rank > array_position($9::text[], d.state) THEN ($9::text[])[p.rank]
                                ELSE d.state END,
                   last_event_sequence = d.last_event_sequence + p.n,
                   due_at = CASE WHEN d.in_flight THEN d.due_at
                                 WHEN ($9::text[])[p.rank] = ANY($10::text[]) OR d.state = ANY($10::text[]) THEN NULL
                                 WHEN p.dropped THEN $11
                                 ELSE d.due_at END
              FROM per_delivery p
             WHERE d.id = p.delivery_id
            RETURNING d.id, d.message_id, d.project_id, d.channel, d.recipient, d.traceparent,
                      d.last_event_sequence - p.n AS before
        ), new_events AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, attempt, provider_id,
                                reason, detail, recipient)
            SELECT n.delivery_id, c.before + n.nth, c.project_id, n.type, n.counts, n.occurred_at, n.attempt,
                   n.provider_id, n.reason, n.detail, n.recipient
              FROM numbered n JOIN changed c ON c.id = n.delivery_id
            RETURNING delivery_id, sequence, type, state, occurred_at, attempt, provider_id, reason, detail
        ), {outbox.insert_cte("new_events", "$12", delivery_id="delivery_id")}
        SELECT NULL::bigint AS position, e.*, c.message_id, c.project_id, c.channel, c.recipient, c.traceparent,
               o.id AS outbox_id
          FROM new_events e JOIN changed c ON c.id = e.delivery_id CROSS JOIN outbox o
         UNION ALL
        SELECT position, delivery_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
          FROM known
        """,  # noqa: S608  constants
        [one.delivery_id for one in batch],
        [one.attempt for one in batch],
        [one.provider_id for one in batch],
        [one.receipt_id for one in batch],
        [one.type.value for one in batch],
        [STATE_ASSERTED_BY[one.type] for one in batch],
        [one.occurred_at for one in batch],
        [one.detail for one in batch],
        RANKED_STATES,
        SETTLED_STATES,
        now,
        now + outbox_retry_after,
        [one.provider_message_id for one in batch],
        [one.reason for one in batch],
        [one.payload for one in batch],
        [one.recipient for one in batch],
    )
    known = {row["position"] for row in rows if row["position"] is not None}
    made = [dict(row) for row in rows if row["position"] is None]
    outbox_id = made[0]["outbox_id"] if made else None
    traceparents = [fields.pop("traceparent") for fields in made]
    for fields in made:
        del fields["position"], fields["outbox_id"]
    return ApplyResult([position in known for position in range(1, len(batch) + 1)], made, outbox_id, traceparents)


class LateAcceptance(NamedTuple):
    """An acceptance whose attempt was settled as unknown before it came."""

    delivery_id: UUID
    attempt: int
    provider_id: UUID
    occurred_at: datetime
    detail: str
    provider_message_id: str  # "" when the provider gives none
    receipt_ids: tuple[str, ...]  # ids by which receipts of the attempt are found


async def record_late_acceptance(pool: Pool, late: LateAcceptance, *, now: datetime) -> None:
    """Count the acceptance like a receipt, and store its ids with it: all of it or nothing. A repeat changes nothing.

    Not a part of :func:`apply`, because the gateway's login writes neither attempts nor receipt ids. The outbox row is
    due at once: the recovery loop publishes the event.
    """
    receipt = ReceiptEntry(
        delivery_id=late.delivery_id,
        attempt=late.attempt,
        provider_id=late.provider_id,
        receipt_id=f"late answer to attempt {late.attempt}",
        type=EventType.SENT,
        occurred_at=late.occurred_at,
        detail=late.detail,
    )
    async with pool.acquire() as connection, connection.transaction():
        await apply(connection, [receipt], now=now, outbox_retry_after=timedelta(0))
        await connection.execute(
            """
            WITH accepted AS (
                UPDATE attempts SET provider_message_id = $4
                 WHERE delivery_id = $1 AND number = $2 AND provider_id = $3
                RETURNING delivery_id, number, provider_id
            )
            INSERT INTO receipt_ids (delivery_id, attempt, provider_id, provider_message_id)
            SELECT delivery_id, number, provider_id, unnest($5::text[]) FROM accepted ON CONFLICT DO NOTHING
            """,
            late.delivery_id,
            late.attempt,
            late.provider_id,
            late.provider_message_id,
            late.receipt_ids,
        )
