"""Claims and transitions of deliveries.

Leases are by the database's clock: a worker whose own clock is wrong holds none that has expired or that outlives it
(docs/decisions/0027). Functions with an optional ``now`` use the database's clock without one.

Every change is a compare-and-set on (state, attempt_count, in_flight): any handler may run twice, and any two may race.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sluice.model.reasons import Reason
from sluice.model.state import RANKED_STATES, SETTLED_STATES, STATE_ASSERTED_BY, EventType
from sluice.store import disagreements, outbox
from sluice.store.db import Db, columns
from sluice.store.disagreements import Refused

T = TypeVar("T")


class Claim(NamedTuple):
    """The request to make attempt ``attempt`` of a delivery at a provider."""

    delivery_id: UUID
    project_id: UUID
    attempt: int
    provider_id: UUID
    retry_round: int
    reference: str
    routing_decision: str
    sandbox: bool  # the sandbox is the provider
    idempotent: bool = False  # the provider accepts a reference once: after an unknown outcome the old one is kept
    price: int | None = None  # millionths of the project's currency: see sluice.model.cost
    by_segment: bool = False  # the price is of one segment


class Claimed(NamedTuple):
    """A claim that succeeded, with what the call needs."""

    message_id: UUID
    recipient: str
    content: str  # JSON
    created_at: datetime
    reference: str  # the requested one, or that of an earlier unknown attempt at the same idempotent provider
    envelope: tuple[str, ...] | None = None  # of a divided delivery: bare addresses


async def claim(
    db: Db, claims: Sequence[Claim], *, lease: timedelta, now: datetime | None = None
) -> list[Claimed | None]:
    """Claim attempts: the delivery is in flight until ``now + lease`` and the attempt's row is written.

    ``claims`` holds each attempt at most once; the results come in its order. A claim succeeds only while the delivery
    stands exactly before the requested attempt, is enqueued or due, and is of the claim's project and, if the provider
    is the sandbox, of a test key; None means one of these fails (see :mod:`sluice.store.disagreements`).
    A divided delivery never takes an old reference: the provider had another envelope under it.
    Locked rows are skipped: another statement is changing them, and the delivery is requeued when it falls due.
    """
    rows = await db.fetch(
        """
        WITH requested AS (
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::uuid[], $5::smallint[], $6::text[],
                                 $7::text[], $8::boolean[], $9::boolean[], $10::bigint[], $11::boolean[])
                WITH ORDINALITY
                AS r (delivery_id, project_id, number, provider_id, retry_round, reference, routing_decision,
                      sandbox, idempotent, price, by_segment, position)
             LIMIT cardinality($1)  -- see sluice.store.db
        ), claimable AS (  -- locked, and exactly before the requested attempt
            SELECT r.position, r.delivery_id, r.number, r.provider_id, r.retry_round, r.routing_decision,
                   r.price * CASE WHEN r.by_segment THEN d.segments ELSE 1 END AS cost,
                   coalesce(CASE WHEN r.idempotent AND d.unknown_attempts > 0 AND d.envelope IS NULL
                                 THEN (SELECT a.client_reference FROM attempts a
                                        WHERE a.delivery_id = d.id AND a.provider_id = r.provider_id
                                              AND a.outcome = 'unknown'
                                        ORDER BY a.number LIMIT 1)
                            END, r.reference) AS reference
              FROM requested r
              JOIN deliveries d ON d.id = r.delivery_id AND d.project_id = r.project_id
             WHERE d.state IN ('QUEUED', 'SENDING') AND NOT d.in_flight
               AND d.attempt_count = r.number - 1 AND d.expires_at > coalesce($12::timestamptz, now())
               AND d.sandbox = r.sandbox
               AND (d.enqueued_at IS NOT NULL OR d.due_at <= coalesce($12::timestamptz, now()))
               FOR UPDATE OF d SKIP LOCKED
        ), claimed AS (  -- in flight until the lease expires
            UPDATE deliveries d
               SET state = 'SENDING', attempt_count = c.number, in_flight = true, provider_id = c.provider_id,
                   due_at = coalesce($12::timestamptz, now()) + $13::interval, enqueued_at = NULL,
                   last_event_sequence = d.last_event_sequence + 1
              FROM claimable c
             WHERE d.id = c.delivery_id
            RETURNING c.position, d.id, d.message_id, d.project_id, d.recipient, d.envelope, d.last_event_sequence,
                      c.number, c.provider_id, c.retry_round, c.reference, c.routing_decision, c.cost
        ), new_attempts AS (
            INSERT INTO attempts (delivery_id, number, project_id, provider_id, retry_round, client_reference,
                                  routing_decision, started_at, cost)
            SELECT id, number, project_id, provider_id, retry_round, reference, routing_decision,
                   coalesce($12::timestamptz, now()), cost
              FROM claimed
        ), new_events AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, attempt, provider_id)
            SELECT id, last_event_sequence, project_id, 'sending', 'SENDING',
                   coalesce($12::timestamptz, now()), number, provider_id
              FROM claimed
        )
        SELECT c.position, c.message_id, c.recipient, m.content, m.created_at, c.reference, c.envelope
          FROM claimed c
          JOIN messages m ON m.id = c.message_id
        """,
        *columns(claims).values(),
        now,
        lease,
    )
    results = _by_position(len(claims), {position: _claimed(*row) for position, *row in rows})
    refused = [_refused_claim(one) for one, claimed in zip(claims, results, strict=True) if claimed is None]
    await disagreements.record(db, refused, now=now)
    return results


def _refused_claim(claim: Claim) -> Refused:
    return Refused(claim.delivery_id, claim.project_id, claim.attempt - 1, False, claim.sandbox, True, False)


def _claimed(*row: Any) -> Claimed:
    *fields, envelope = row
    return Claimed._make([*fields, None if envelope is None else tuple(envelope)])


def _by_position(count: int, found: Mapping[int, T]) -> list[T | None]:
    """One entry for each of ``count`` rows of a batch, by the positions that the statement returned."""
    return [found.get(position) for position in range(1, count + 1)]


async def renew(db: Db, attempts: Sequence[tuple[UUID, int]], *, lease: timedelta, now: datetime | None = None) -> None:
    """Extend the leases of attempts (delivery id, attempt number) that are still in flight to ``now + lease``."""
    await db.execute(
        """
        UPDATE deliveries d SET due_at = coalesce($4::timestamptz, now()) + $3::interval
          FROM (SELECT * FROM unnest($1::uuid[], $2::smallint[]) AS a (id, number)
                 LIMIT cardinality($1)  -- see sluice.store.db
               ) AS held
         WHERE d.id = held.id AND d.in_flight AND d.attempt_count = held.number
        """,
        [delivery_id for delivery_id, _ in attempts],
        [number for _, number in attempts],
        lease,
        now,
    )


class Transition(NamedTuple):
    """One change of one delivery, written with exactly one event.

    It applies only while the delivery of that project has made ``attempt`` attempts and ``in_flight`` is as given, and
    ``expires`` only after the expiry in the row. ``due_at`` and ``enqueued_at`` are the row's new values; a settled
    state clears ``due_at`` whatever is given.
    """

    delivery_id: UUID
    project_id: UUID
    attempt: int
    in_flight: bool
    type: EventType
    occurred_at: datetime
    detail: str = ""
    provider_id: UUID | None = None
    due_at: datetime | None = None
    enqueued_at: datetime | None = None
    next_round: bool = False
    outcome: str | None = None  # of the attempt; None leaves the attempt's row unchanged
    provider_message_id: str | None = None
    unknown: bool = False
    reason: Reason | None = None  # of a refusal
    expires: bool = False  # the delivery ends because of its expiry
    not_before: datetime | None = None  # the next call of this delivery at the provider
    receipt_ids: tuple[str, ...] = ()  # ids by which receipts of the attempt are found


_SPARSE = frozenset(Transition._fields[Transition._fields.index("detail") :])  # the fields with defaults


@dataclass(frozen=True, slots=True)
class TransitionResult:
    """The event sequence of each transition of a batch (None if it lost its race), and the outbox row of the batch."""

    sequences: list[int | None]
    outbox_id: int | None


async def transition(
    db: Db,
    transitions: Sequence[Transition],
    *,
    now: datetime,
    outbox_retry_after: timedelta,
    acknowledged: Sequence[int] = (),
) -> TransitionResult:
    """Apply a batch of transitions (at most one for each delivery) in one statement.

    One row of ``event_outbox`` covers the new events until Kafka has acknowledged them; the same statement deletes the
    outbox rows named in ``acknowledged``.
    """
    rows = await db.fetch(
        f"""
        WITH requested AS (
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::boolean[], $5::text[],
                                 $6::timestamptz[], $7::text[], $8::uuid[], $9::timestamptz[], $10::timestamptz[],
                                 $11::boolean[], $12::text[], $13::text[], $14::boolean[], $15::text[], $16::boolean[],
                                 $17::timestamptz[], $18::text[]) WITH ORDINALITY
                AS r (delivery_id, project_id, attempt, in_flight, type, occurred_at, detail, provider_id, due_at,
                      enqueued_at, next_round, outcome, provider_message_id, unknown, reason, expires, not_before,
                      state, position)
             LIMIT cardinality($1)  -- see sluice.store.db
        ), changed AS (  -- the compare-and-set
            UPDATE deliveries d
               SET state = CASE WHEN array_position($19::text[], r.state) > array_position($19::text[], d.state)
                                THEN r.state ELSE d.state END,
                   in_flight = false,
                   due_at = CASE WHEN r.state = ANY($20::text[]) OR d.state = ANY($20::text[])
                                 THEN NULL ELSE r.due_at END,
                   enqueued_at = r.enqueued_at,
                   retry_round = d.retry_round + coalesce(r.next_round, false)::int,
                   unknown_attempts = d.unknown_attempts + coalesce(r.unknown, false)::int,
                   last_event_sequence = d.last_event_sequence + 1
              FROM requested r
             WHERE d.id = r.delivery_id AND d.project_id = r.project_id
               AND (r.expires IS NOT TRUE OR d.expires_at <= $25::timestamptz)
               AND d.attempt_count = r.attempt AND d.in_flight = r.in_flight
               AND (d.in_flight OR d.state IN ('QUEUED', 'SENDING'))
            RETURNING r.position, d.id, d.project_id, d.last_event_sequence AS sequence, r.attempt, r.type, r.state,
                      r.occurred_at, coalesce(r.detail, '') AS detail, r.provider_id, r.outcome, r.provider_message_id,
                      r.reason, r.not_before
        ), finished_attempts AS (
            UPDATE attempts a
               SET finished_at = c.occurred_at, outcome = c.outcome, error = c.detail,
                   provider_message_id = c.provider_message_id, not_before = c.not_before
              FROM changed c
             WHERE c.outcome IS NOT NULL AND a.delivery_id = c.id AND a.number = c.attempt
        ), new_events AS (
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, attempt, provider_id,
                                reason, detail)
            SELECT id, sequence, project_id, type, state, occurred_at, nullif(attempt, 0), provider_id, reason, detail
              FROM changed
        ), new_receipt_ids AS (
            INSERT INTO receipt_ids (delivery_id, attempt, provider_id, provider_message_id)
            SELECT c.id, c.attempt, c.provider_id, i.provider_message_id
              FROM unnest($23::int[], $24::text[]) AS i (position, provider_message_id)
              JOIN changed c ON c.position = i.position
            ON CONFLICT DO NOTHING
        ), deleted AS (
            DELETE FROM event_outbox WHERE id = ANY($21::bigint[])
        ), {outbox.insert_cte("changed", "$22")}
        SELECT c.position, c.sequence, o.id AS outbox_id FROM changed c CROSS JOIN outbox o
        """,  # noqa: S608  constants
        *columns(transitions, sparse=_SPARSE, without=("receipt_ids",)).values(),
        [STATE_ASSERTED_BY[each.type] for each in transitions],
        RANKED_STATES,
        SETTLED_STATES,
        list(acknowledged),
        now + outbox_retry_after,
        [position for position, each in enumerate(transitions, start=1) for _ in each.receipt_ids],
        [receipt_id for each in transitions for receipt_id in each.receipt_ids],
        now,
    )
    sequences = _by_position(len(transitions), {row["position"]: row["sequence"] for row in rows})
    refused = [_refused_transition(one) for one, n in zip(transitions, sequences, strict=True) if n is None]
    await disagreements.record(db, refused, now=now)
    return TransitionResult(sequences, rows[0]["outbox_id"] if rows else None)


def _refused_transition(one: Transition) -> Refused:
    return Refused(one.delivery_id, one.project_id, one.attempt, one.in_flight, None, False, one.expires)
