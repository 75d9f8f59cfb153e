"""The road of a delivery through the record: claim, transition, and what falls due.

Every change is a compare-and-set on (state, attempts, in_flight), so any handler may run twice and any two may race.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sluice.model.message import Channel, DeliveryClass
from sluice.model.state import SETTLED, STATE_ASSERTED_BY, EventType, State
from sluice.store.db import Db, sparse_column

T = TypeVar("T")

_RANKED_STATES = [state.value for state in State]
_SETTLED_STATES = [state.value for state in SETTLED]


class Claim(NamedTuple):
    """The wish to make attempt ``number`` of a delivery at a provider."""

    delivery_id: UUID
    project_id: UUID
    attempt: int
    provider_id: UUID
    retry_round: int
    reference: str
    routing_decision: str
    idempotent: bool = False  # the provider takes a reference once: what it may have taken keeps its old one


class Claimed(NamedTuple):
    """A claim that was won, with what the call needs."""

    message_id: UUID
    recipient: str
    content: str  # JSON
    created_at: datetime
    reference: str  # the wished one, or that of an earlier ambiguous attempt at the same idempotent provider


async def claim(db: Db, claims: Sequence[Claim], *, now: datetime, lease: timedelta) -> list[Claimed | None]:
    """Win attempts: queued (or between attempts) becomes in flight until ``now + lease``, attempt rows are written.

    At most one wish for each attempt; what was won is told in their order. Only deliveries that still stand exactly
    before the wished attempt are won; the others (None) are cancelled, expired, settled, or in other hands. Rows that
    somebody holds locked are not won either: that somebody is changing them, and what remains is driven again when it
    falls due.
    """
    rows = await db.fetch(
        """
        WITH wish AS (
            SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::smallint[], $5::text[], $6::text[],
                                 $9::uuid[], $10::boolean[]) WITH ORDINALITY
                AS w (delivery_id, number, provider_id, round, reference, decision, project_id, idempotent, place)
             LIMIT cardinality($1)  -- see sluice.store.db
        ), free AS (
            SELECT w.place, w.delivery_id, w.number, w.provider_id, w.round, w.decision,
                   coalesce(CASE WHEN w.idempotent AND d.ambiguous > 0
                                 THEN (SELECT a.reference FROM attempts a
                                        WHERE a.delivery_id = d.id AND a.provider_id = w.provider_id
                                              AND a.outcome = 'unknown'
                                        ORDER BY a.number LIMIT 1)
                            END, w.reference) AS reference
              FROM wish w
              JOIN deliveries d ON d.id = w.delivery_id AND d.project_id = w.project_id
             WHERE d.state IN ('QUEUED', 'SENDING') AND NOT d.in_flight
               AND d.attempts = w.number - 1 AND d.expires_at > $7
               FOR UPDATE OF d SKIP LOCKED
        ), won AS (
            UPDATE deliveries d
               SET state = 'SENDING', attempts = f.number, in_flight = true, provider_id = f.provider_id,
                   due_at = $8, published_at = NULL, events = d.events + 1
              FROM free f
             WHERE d.id = f.delivery_id
            RETURNING f.place, d.id, d.message_id, d.project_id, d.recipient, d.events, f.number, f.provider_id,
                      f.round, f.reference, f.decision
        ), tried AS (
            INSERT INTO attempts (delivery_id, number, project_id, provider_id, round, reference, decision, started_at)
            SELECT id, number, project_id, provider_id, round, reference, decision, $7 FROM won
        ), history AS (
            INSERT INTO events (delivery_id, number, project_id, kind, state, at, attempt, provider_id)
            SELECT id, events, project_id, 'sending', 'SENDING', $7, number, provider_id FROM won
        )
        SELECT w.place, w.message_id, w.recipient, m.content, m.created_at, w.reference
          FROM won w
          JOIN messages m ON m.id = w.message_id
        """,
        [wish.delivery_id for wish in claims],
        [wish.attempt for wish in claims],
        [wish.provider_id for wish in claims],
        [wish.retry_round for wish in claims],
        [wish.reference for wish in claims],
        [wish.routing_decision for wish in claims],
        now,
        now + lease,
        [wish.project_id for wish in claims],
        [wish.idempotent for wish in claims],
    )
    return _by_position(len(claims), {place: Claimed(*claimed) for place, *claimed in rows})


def _by_position(count: int, found: Mapping[int, T]) -> list[T | None]:
    """One entry for each of ``count`` rows that were asked about, by the places that the statement gave them."""
    return [found.get(place) for place in range(1, count + 1)]


async def renew(db: Db, attempts: Sequence[tuple[UUID, int]], *, until: datetime) -> None:
    """Keep attempts (delivery, number) that are still in flight until ``until``."""
    await db.execute(
        """
        UPDATE deliveries d SET due_at = $3
          FROM (SELECT * FROM unnest($1::uuid[], $2::smallint[]) AS h (id, number)
                 LIMIT cardinality($1)  -- see sluice.store.db
               ) AS held
         WHERE d.id = held.id AND d.in_flight AND d.attempts = held.number
        """,
        [delivery_id for delivery_id, _ in attempts],
        [number for _, number in attempts],
        until,
    )


class Transition(NamedTuple):
    """One step of one delivery, written with exactly one event.

    It applies only while the delivery has made ``attempt`` attempts and is in flight or not as said.
    ``due_at`` and ``published_at`` are what the row gets; a quiet state clears ``due_at`` whatever it says.
    """

    delivery_id: UUID
    attempt: int
    in_flight: bool
    type: EventType
    occurred_at: datetime
    detail: str = ""
    provider_id: UUID | None = None
    due_at: datetime | None = None
    enqueued_at: datetime | None = None
    next_round: bool = False
    outcome: str | None = None  # of the attempt; None leaves the attempt's row alone
    provider_message_id: str | None = None
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class TransitionResult:
    """What became of a batch of steps: each one's event number, None if it lost its race, and what covers them."""

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
    """Apply a batch of steps (at most one for a delivery) in one statement.

    The events are covered by one row of ``announcements`` until the broker has them; rows named in
    ``acknowledged`` are removed on the way.
    """
    rows = await db.fetch(
        """
        WITH step AS (
            SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::boolean[], $4::text[], $5::text[], $6::timestamptz[],
                                 $7::text[], $8::uuid[], $9::timestamptz[], $10::timestamptz[], $11::boolean[],
                                 $12::text[], $13::text[], $14::boolean[]) WITH ORDINALITY
                AS s (delivery_id, attempt, in_flight, kind, state, at, detail, provider_id, due_at, published_at,
                      next_round, outcome, provider_ref, ambiguous, place)
             LIMIT cardinality($1)  -- see sluice.store.db
        ), moved AS (
            UPDATE deliveries d
               SET state = CASE WHEN array_position($15::text[], s.state) > array_position($15::text[], d.state)
                                THEN s.state ELSE d.state END,
                   in_flight = false,
                   due_at = CASE WHEN s.state = ANY($16::text[]) OR d.state = ANY($16::text[])
                                 THEN NULL ELSE s.due_at END,
                   published_at = s.published_at,
                   round = d.round + coalesce(s.next_round, false)::int,
                   ambiguous = d.ambiguous + coalesce(s.ambiguous, false)::int,
                   events = d.events + 1
              FROM step s
             WHERE d.id = s.delivery_id
               AND d.attempts = s.attempt AND d.in_flight = s.in_flight
               AND (d.in_flight OR d.state IN ('QUEUED', 'SENDING'))
            RETURNING s.place, d.id, d.project_id, d.events AS number, s.attempt, s.kind, s.state, s.at,
                      coalesce(s.detail, '') AS detail, s.provider_id, s.outcome, s.provider_ref
        ), tried AS (
            UPDATE attempts a
               SET finished_at = m.at, outcome = m.outcome, reason = m.detail, provider_ref = m.provider_ref
              FROM moved m
             WHERE m.outcome IS NOT NULL AND a.delivery_id = m.id AND a.number = m.attempt
        ), history AS (
            INSERT INTO events (delivery_id, number, project_id, kind, state, at, attempt, provider_id, detail)
            SELECT id, number, project_id, kind, state, at, nullif(attempt, 0), provider_id, detail FROM moved
        ), forgotten AS (
            DELETE FROM announcements WHERE id = ANY($17::bigint[])
        ), covered AS (
            INSERT INTO announcements (due_at, delivery_ids, numbers)
            SELECT $18, array_agg(id), array_agg(number) FROM moved HAVING count(*) > 0
            RETURNING id
        )
        SELECT m.place, m.number, c.id AS announcement FROM moved m CROSS JOIN covered c
        """,
        [step.delivery_id for step in transitions],
        [step.attempt for step in transitions],
        [step.in_flight for step in transitions],
        [step.type.value for step in transitions],
        [STATE_ASSERTED_BY[step.type] for step in transitions],
        [step.occurred_at for step in transitions],
        sparse_column(step.detail or None for step in transitions),
        sparse_column(step.provider_id for step in transitions),
        sparse_column(step.due_at for step in transitions),
        sparse_column(step.enqueued_at for step in transitions),
        sparse_column(step.next_round or None for step in transitions),
        sparse_column(step.outcome for step in transitions),
        sparse_column(step.provider_message_id for step in transitions),
        sparse_column(step.unknown or None for step in transitions),
        _RANKED_STATES,
        _SETTLED_STATES,
        list(acknowledged),
        now + outbox_retry_after,
    )
    numbers = _by_position(len(transitions), {row["place"]: row["number"] for row in rows})
    return TransitionResult(numbers, rows[0]["announcement"] if rows else None)


@dataclass(frozen=True, slots=True)
class PendingDelivery:
    """A delivery as the recovery loop finds it, with its newest attempt."""

    id: UUID
    message_id: UUID
    project_id: UUID
    channel: Channel
    delivery_class: DeliveryClass
    sandbox: bool
    preferred_provider_id: UUID | None
    attempt_count: int
    retry_round: int
    unknown_attempts: int
    provider_id: UUID | None
    expires_at: datetime
    attempted_providers: tuple[UUID, ...]  # providers tried in this round
    last_outcome: str | None
    last_reference: str | None


_PENDING_COLUMNS = """
    d.id, d.message_id, d.project_id, d.channel, d.class, d.sandbox, d.preferred, d.attempts, d.round, d.ambiguous,
    d.provider_id, d.expires_at,
    ARRAY(SELECT a.provider_id FROM attempts a
           WHERE a.delivery_id = d.id AND a.round = d.round ORDER BY a.number) AS tried,
    last.outcome AS last_outcome, last.reference AS last_reference
"""


def pending_query(rows: str) -> str:
    """The query for :func:`standing` over a table (or the name of a query) with the columns of ``deliveries``."""
    return f"""
        SELECT {_PENDING_COLUMNS}
          FROM {rows} d LEFT JOIN attempts last ON last.delivery_id = d.id AND last.number = d.attempts
    """  # noqa: S608  names that stand in the code


def from_row(row: Any) -> PendingDelivery:
    """A row of :func:`select_standing`."""
    fields = dict(row)
    fields["channel"] = Channel(fields["channel"])
    fields["class_"] = DeliveryClass(fields.pop("class"))
    fields["tried"] = tuple(fields["tried"])
    return PendingDelivery(**fields)


async def requeue_lost(
    db: Db, *, now: datetime, low_watermarks: Mapping[Channel, datetime], requeue_after: timedelta, limit: int
) -> list[PendingDelivery]:
    """Put up to ``limit`` deliveries on the conveyor again that should be there and are not.

    ``low_water`` is, by channel, when the oldest record that is still unread was published: what was published later
    is still on its way and is left alone, so that a backlog is not amplified.
    Each row is taken by one caller; expired ones are among them.
    """
    rows = await db.fetch(
        f"""
        WITH fallen AS (
            SELECT d.id
              FROM deliveries d JOIN unnest($2::text[], $5::timestamptz[]) AS mark (channel, low) USING (channel)
             WHERE d.published_at < mark.low AND d.published_at < $6 AND d.due_at <= $1 AND NOT d.in_flight
             ORDER BY d.published_at
             LIMIT $3
               FOR UPDATE OF d SKIP LOCKED
        ), taken AS (
            UPDATE deliveries d SET published_at = $1, due_at = $4 FROM fallen f WHERE d.id = f.id RETURNING d.*
        )
        {pending_query("taken")}
        """,  # noqa: S608  a constant of this file
        now,
        [channel.value for channel in low_watermarks],
        limit,
        now + requeue_after,
        list(low_watermarks.values()),
        max(low_watermarks.values()),
    )
    return [from_row(row) for row in rows]


async def expired_leases(db: Db, *, now: datetime, limit: int) -> list[PendingDelivery]:
    """Attempts whose lease has ended without an outcome: their worker is gone or has lost its right."""
    rows = await db.fetch(
        f"""
        {pending_query("deliveries")}
         WHERE d.due_at <= $1 AND d.published_at IS NULL AND d.in_flight
         ORDER BY d.due_at
         LIMIT $2
        """,
        now,
        limit,
    )
    return [from_row(row) for row in rows]


@dataclass(frozen=True, slots=True)
class QueueAges:
    """How far behind the system is: the oldest due time off the conveyor, the oldest publication still unsettled."""

    due_at: datetime | None
    enqueued_at: datetime | None


async def queue_ages(db: Db) -> QueueAges:
    """Two looks at the head of an index."""
    row = await db.fetchrow(
        """
        SELECT (SELECT min(due_at) FROM deliveries WHERE due_at IS NOT NULL AND published_at IS NULL) AS due_at,
               (SELECT min(published_at) FROM deliveries
                 WHERE due_at IS NOT NULL AND published_at IS NOT NULL) AS published_at
        """
    )
    return QueueAges(row["due_at"], row["published_at"])
