"""Queries of the recovery loop: deliveries that are due and not in progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sluice.model.message import Channel, DeliveryClass
from sluice.store.db import Db


@dataclass(frozen=True, slots=True)
class PendingDelivery:
    """A delivery that is not settled, with its newest attempt."""

    id: UUID
    message_id: UUID
    project_id: UUID
    channel: Channel
    delivery_class: DeliveryClass
    recipient: str
    sandbox: bool
    preferred_provider_id: UUID | None
    attempt_count: int
    retry_round: int
    unknown_attempts: int
    provider_id: UUID | None
    expires_at: datetime
    attempted_providers: tuple[UUID, ...]  # in this retry round
    last_outcome: str | None
    last_reference: str | None
    errors: tuple[str, ...]  # of those attempts
    all_declined: bool  # every attempt of this retry round
    throttled: bool  # an attempt of this retry round
    waiting_providers: tuple[UUID, ...]  # that named a time before which this delivery does not call them
    not_before: tuple[datetime, ...]  # these times; of two for one provider, the later one stands last
    enqueued_at: datetime | None  # None: not in the dispatch queue
    awaited: bool  # a send request waits for it
    traceparent: str | None  # of the span that accepted its message; None: not traced
    segments: int


NOW = "coalesce($1::timestamptz, now())"
"""The time of a query whose first parameter is its optional ``now``: without one, the database's clock."""

# The pause of an account is the suspension of its provider, which all deliveries see.
_IS_PAUSED = "a.outcome = 'throttled' AND a.scope <> 'account' AND a.retry_after_s IS NOT NULL"
_PAUSE_ENDS = "a.finished_at + make_interval(secs => a.retry_after_s)"
_PENDING_COLUMNS = f"""
    d.id, d.message_id, d.project_id, d.channel, d.delivery_class, d.recipient, d.sandbox, d.preferred_provider_id,
    d.attempt_count, d.retry_round, d.unknown_attempts, d.provider_id, d.expires_at, d.enqueued_at, d.awaited,
    d.traceparent, d.segments,
    ARRAY(SELECT a.provider_id FROM attempts a
           WHERE a.delivery_id = d.id AND a.retry_round = d.retry_round ORDER BY a.number) AS attempted_providers,
    ARRAY(SELECT coalesce(left(a.error, 200), '') FROM attempts a
           WHERE a.delivery_id = d.id AND a.retry_round = d.retry_round ORDER BY a.number) AS errors,
    NOT EXISTS(SELECT FROM attempts a
                WHERE a.delivery_id = d.id AND a.retry_round = d.retry_round
                  AND a.outcome IS DISTINCT FROM 'declined') AS all_declined,
    EXISTS(SELECT FROM attempts a
            WHERE a.delivery_id = d.id AND a.retry_round = d.retry_round AND a.outcome = 'throttled') AS throttled,
    ARRAY(SELECT a.provider_id FROM attempts a
           WHERE a.delivery_id = d.id AND {_IS_PAUSED} ORDER BY {_PAUSE_ENDS}) AS waiting_providers,
    ARRAY(SELECT {_PAUSE_ENDS} FROM attempts a
           WHERE a.delivery_id = d.id AND {_IS_PAUSED} ORDER BY {_PAUSE_ENDS}) AS not_before,
    last.outcome AS last_outcome, last.client_reference AS last_reference
"""  # noqa: S608  (constants)


def pending_query(rows: str) -> str:
    """The query for :func:`from_row` over a table (or the name of a CTE) with the columns of ``deliveries``."""
    return f"""
        SELECT {_PENDING_COLUMNS}
          FROM {rows} d LEFT JOIN attempts last ON last.delivery_id = d.id AND last.number = d.attempt_count
    """  # noqa: S608  names of this package


def from_row(row: Any) -> PendingDelivery:
    """Read one row of :func:`pending_query`."""
    fields = dict(row)
    fields["channel"] = Channel(fields["channel"])
    fields["delivery_class"] = DeliveryClass(fields["delivery_class"])
    for name in ("attempted_providers", "errors", "waiting_providers", "not_before"):
        fields[name] = tuple(fields[name])
    return PendingDelivery(**fields)


async def requeue_lost(
    db: Db,
    *,
    low_watermarks: Mapping[Channel, datetime],
    requeue_after: timedelta,
    limit: int,
    now: datetime | None = None,
) -> list[PendingDelivery]:
    """Enqueue again up to ``limit`` deliveries that are marked as enqueued and are no longer in Kafka.

    ``low_watermarks`` gives, by channel, when the oldest unread Kafka record was enqueued: what was enqueued later is
    still on its way and is left alone, so that a long queue is not amplified. One caller gets each row; expired
    deliveries are among them.
    """
    rows = await db.fetch(
        f"""
        WITH lost AS (
            SELECT d.id
              FROM deliveries d JOIN unnest($2::text[], $5::timestamptz[]) AS mark (channel, low) USING (channel)
             WHERE d.enqueued_at < mark.low AND d.enqueued_at < $6 AND d.due_at <= {NOW} AND NOT d.in_flight
             ORDER BY d.enqueued_at
             LIMIT $3
               FOR UPDATE OF d SKIP LOCKED
        ), requeued AS (
            UPDATE deliveries d SET enqueued_at = {NOW}, due_at = {NOW} + $4::interval
              FROM lost l WHERE d.id = l.id RETURNING d.*
        )
        {pending_query("requeued")}
        """,  # noqa: S608  a constant of this file
        now,
        [channel.value for channel in low_watermarks],
        limit,
        requeue_after,
        list(low_watermarks.values()),
        max(low_watermarks.values()),
    )
    return [from_row(row) for row in rows]


async def list_expired_leases(db: Db, *, limit: int, now: datetime | None = None) -> list[PendingDelivery]:
    """Deliveries in flight whose lease has expired without an outcome: the worker died or lost its claim."""
    rows = await db.fetch(
        f"""
        {pending_query("deliveries")}
         WHERE d.due_at <= {NOW} AND d.enqueued_at IS NULL AND d.in_flight
         ORDER BY d.due_at
         LIMIT $2
        """,
        now,
        limit,
    )
    return [from_row(row) for row in rows]


@dataclass(frozen=True, slots=True)
class QueueAges:
    """How far behind the system is: the oldest due time outside the dispatch queue, the oldest time in it."""

    due_at: datetime | None
    enqueued_at: datetime | None


async def queue_ages(db: Db) -> QueueAges:
    """Read the heads of two indexes."""
    row = await db.fetchrow(
        """
        SELECT (SELECT min(due_at) FROM deliveries WHERE due_at IS NOT NULL AND enqueued_at IS NULL) AS due_at,
               (SELECT min(enqueued_at) FROM deliveries
                 WHERE due_at IS NOT NULL AND enqueued_at IS NOT NULL) AS enqueued_at
        """
    )
    return QueueAges(row["due_at"], row["enqueued_at"])
