"""Webhook deliveries: one event for one endpoint, with its attempts.

They are a projection of events, and are claimed like deliveries: what is due is claimed in batches with a lease, and a
lease that ends without a result falls due again. Functions with an optional ``now`` use the database's clock without
one (docs/decisions/0027).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.ids import min_id_at, uuid7
from sluice.model.message import Channel
from sluice.model.state import EventType, State
from sluice.model.webhooks import WebhookStatus, WebhookType
from sluice.store.db import Db, columns
from sluice.store.webhooks import Endpoint

# The id of a webhook delivery, from its key: the time of the event and a digest, as a UUIDv7. A repeated event has the
# same one.
_ID = """
    (lpad(to_hex((extract(epoch FROM e.occurred_at) * 1000)::bigint), 12, '0') || '7' || substr(n.digest, 1, 3)
     || '8' || substr(n.digest, 4, 15))::uuid
"""


class EventKey(NamedTuple):
    """An event as the bus names it; everything else is read from PostgreSQL."""

    delivery_id: UUID
    sequence: int
    project_id: UUID
    channel: Channel
    event_type: EventType
    type: WebhookType


class EventFacts(NamedTuple):
    """What the body of a webhook contains of an event and its message."""

    message_id: UUID
    channel: Channel
    recipient: str
    state: State | None
    provider_id: UUID | None
    attempt: int | None
    reason: str | None
    detail: str
    tags: tuple[str, ...]
    metadata: Mapping[str, Any] | None
    idempotency_key: str | None


class NoticeFacts(NamedTuple):
    """What the body of a webhook contains of a provider that has stopped or begun to work."""

    channel: Channel
    provider_id: UUID
    status: str
    reason: str
    incident_id: UUID
    incident: str


class Claimed(NamedTuple):
    """A webhook delivery whose attempt this process makes until ``leased_until``.

    ``facts``: None for a test, and for an event whose message was deleted. ``notice``: of a change that belongs to no
    message.
    """

    delivery_id: UUID
    sequence: int
    endpoint_id: UUID
    project_id: UUID
    type: WebhookType
    occurred_at: datetime
    attempt_count: int
    retry_step: int
    leased_until: datetime
    facts: EventFacts | None
    notice: NoticeFacts | None = None

    @property
    def is_test(self) -> bool:
        """Whether a customer asked for it."""
        return self.sequence == 0


class Result(NamedTuple):
    """What became of a claimed delivery. ``number``: of the attempt that was made, 0 if none was.

    ``due_at``: when the next one is due; None if the delivery is settled. ``endpoint_updated_at``: the version of the
    endpoint that was called, None if there was none.
    """

    delivery_id: UUID
    sequence: int
    endpoint_id: UUID
    leased_until: datetime
    status: WebhookStatus
    due_at: datetime | None
    number: int = 0
    started_at: datetime | None = None
    duration_ms: int = 0
    response_status: int | None = None
    error: str | None = None
    answer: str = ""
    endpoint_updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to an endpoint. ``status``: of the response, None without one; ``error``: None for a success."""

    number: int
    started_at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    answer: str


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """A webhook delivery as a list shows it, with its attempts in order."""

    id: UUID
    delivery_id: UUID
    sequence: int
    type: WebhookType
    status: WebhookStatus
    due_at: datetime | None
    occurred_at: datetime
    finished_at: datetime | None
    attempts: tuple[Attempt, ...]


# -- projection ----------------------------------------------------------------------------------------------------


async def project(db: Db, events: Sequence[EventKey], *, now: datetime | None = None) -> int:
    """Add the deliveries of ``events`` (at least one) to the endpoints that ask for them; a repeat adds nothing.

    An endpoint that Sluice disabled gets them as skipped, so that they can be replayed; one that the customer disabled
    gets none. Returns how many were added.
    """
    row = columns(events)
    added: int = await db.fetchval(
        f"""
        WITH wanted AS MATERIALIZED (
            SELECT k.delivery_id, k.sequence, k.channel, k.event_type, k.type, w.id AS endpoint_id, w.project_id,
                   w.sandbox, w.tags, w.enabled, md5(k.delivery_id::text || k.sequence || w.id) AS digest
              FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::text[])
                   AS k (delivery_id, sequence, project_id, channel, event_type, type)
              JOIN webhook_endpoints w ON w.project_id = k.project_id
             WHERE (w.enabled OR w.disabled_reason IS NOT NULL) AND k.type = ANY(w.events)
               AND (w.channels = '{{}}' OR k.channel = ANY(w.channels))
        ), added AS (
            INSERT INTO webhook_deliveries (id, delivery_id, sequence, endpoint_id, project_id, type, occurred_at,
                                            status, due_at, finished_at)
            SELECT {_ID}, n.delivery_id, n.sequence, n.endpoint_id, n.project_id, n.type, e.occurred_at,
                   CASE WHEN n.enabled THEN 'PENDING' ELSE 'SKIPPED' END,
                   CASE WHEN n.enabled THEN coalesce($7::timestamptz, now()) END,
                   CASE WHEN NOT n.enabled THEN coalesce($7::timestamptz, now()) END
              FROM wanted n
              JOIN events e ON e.delivery_id = n.delivery_id AND e.sequence = n.sequence AND e.type = n.event_type
              JOIN deliveries d ON d.id = n.delivery_id AND d.project_id = n.project_id AND d.sandbox = n.sandbox
                               AND d.channel = n.channel
              JOIN messages m ON m.id = d.message_id AND (n.tags = '{{}}' OR n.tags && m.tags)
            ON CONFLICT DO NOTHING
            RETURNING 1
        )
        SELECT count(*) FROM added
        """,  # noqa: S608  constants
        *row.values(),
        now,
    )
    return added


async def add_notices(db: Db, notices: Sequence[UUID], *, now: datetime) -> int:
    """Add the deliveries of incident notices to the endpoints that ask for them; a repeat adds nothing.

    Messages of test keys have no outage: endpoints for test events get none. Returns how many were added.
    """
    added: int = await db.fetchval(
        f"""
        WITH n AS MATERIALIZED (
            SELECT c.id AS delivery_id, w.id AS endpoint_id, w.project_id, w.enabled, c.occurred_at,
                   md5(c.id::text || 1 || w.id) AS digest
              FROM incident_notices c
              JOIN webhook_endpoints w ON w.project_id = c.project_id
             WHERE c.id = ANY($1::uuid[]) AND NOT w.sandbox AND '{WebhookType.PROVIDER_HEALTH_CHANGED}' = ANY(w.events)
               AND (w.enabled OR w.disabled_reason IS NOT NULL)
               AND (w.channels = '{{}}' OR c.channel = ANY(w.channels)) AND w.tags = '{{}}'
        ), added AS (
            INSERT INTO webhook_deliveries (id, delivery_id, sequence, endpoint_id, project_id, type, occurred_at,
                                            status, due_at, finished_at)
            SELECT {_ID.replace("e.occurred_at", "n.occurred_at")}, n.delivery_id, 1, n.endpoint_id, n.project_id,
                   '{WebhookType.PROVIDER_HEALTH_CHANGED}', n.occurred_at,
                   CASE WHEN n.enabled THEN 'PENDING' ELSE 'SKIPPED' END, CASE WHEN n.enabled THEN $2::timestamptz END,
                   CASE WHEN NOT n.enabled THEN $2::timestamptz END
              FROM n
            ON CONFLICT DO NOTHING
            RETURNING 1
        )
        SELECT count(*) FROM added
        """,  # noqa: S608  constants
        list(notices),
        now,
    )
    return added


async def add_test(db: Db, endpoint: Endpoint, type_: WebhookType, *, now: datetime) -> UUID:
    """Add a delivery of an event that did not happen, due now; returns its id."""
    delivery_id = uuid7()
    await db.execute(
        """
        INSERT INTO webhook_deliveries (id, delivery_id, sequence, endpoint_id, project_id, type, occurred_at, status,
                                        due_at)
        VALUES ($1, $1, 0, $2, $3, $4, $5, 'PENDING', $5)
        """,
        delivery_id,
        endpoint.id,
        endpoint.scope.project_id,
        type_.value,
        now,
    )
    return delivery_id


# -- sending -------------------------------------------------------------------------------------------------------


async def list_due_endpoints(db: Db, *, after: UUID, limit: int, now: datetime | None = None) -> list[UUID]:
    """Up to ``limit`` ids of endpoints with a due delivery, in order, from the one behind ``after``.

    Costs one index lookup per endpoint with an unsettled delivery, however many it has.
    """
    rows = await db.fetch(
        f"""
        WITH RECURSIVE head AS (
            ({_NEXT_ENDPOINT.format(after="$2::uuid")})
            UNION ALL
            SELECT next_endpoint.* FROM head
             CROSS JOIN LATERAL ({_NEXT_ENDPOINT.format(after="head.endpoint_id")}) AS next_endpoint
        )
        SELECT endpoint_id FROM head WHERE due_at <= coalesce($1::timestamptz, now()) LIMIT $3
        """,  # noqa: S608  constants of this file
        now,
        after,
        limit,
    )
    return [row["endpoint_id"] for row in rows]


_NEXT_ENDPOINT = """
    SELECT endpoint_id, due_at FROM webhook_deliveries
     WHERE due_at IS NOT NULL AND endpoint_id > {after} ORDER BY endpoint_id, due_at LIMIT 1
"""


async def claim(db: Db, shares: Mapping[UUID, int], *, lease: timedelta, now: datetime | None = None) -> list[Claimed]:
    """Claim due deliveries, up to the given number per endpoint, the longest due first; each goes to one caller.

    One whose result is not recorded within ``lease`` is claimed again.
    """
    rows = await db.fetch(
        """
        WITH due AS (
            SELECT first.* FROM unnest($1::uuid[], $2::int[]) AS q (endpoint_id, share)
             CROSS JOIN LATERAL (
                   SELECT delivery_id, sequence, endpoint_id FROM webhook_deliveries
                    WHERE endpoint_id = q.endpoint_id AND due_at IS NOT NULL
                      AND due_at <= coalesce($3::timestamptz, now())
                    ORDER BY due_at LIMIT q.share FOR UPDATE SKIP LOCKED) AS first
        ), claimed AS (
            UPDATE webhook_deliveries w SET due_at = coalesce($3::timestamptz, now()) + $4::interval, in_flight = true
              FROM due
             WHERE w.delivery_id = due.delivery_id AND w.sequence = due.sequence AND w.endpoint_id = due.endpoint_id
            RETURNING w.*
        )
        SELECT c.delivery_id, c.sequence, c.endpoint_id, c.project_id, c.type, c.occurred_at, c.attempt_count,
               c.retry_step, c.due_at AS leased_until, d.message_id, d.channel, d.recipient, e.state, e.provider_id,
               e.attempt, e.reason, e.detail, m.tags, m.metadata, m.idempotency_key, n.incident_id,
               n.incident, n.provider_id AS notice_provider_id, n.channel AS notice_channel,
               n.status AS notice_status, n.reason AS notice_reason
          FROM claimed c
          LEFT JOIN events e ON e.delivery_id = c.delivery_id AND e.sequence = c.sequence
          LEFT JOIN deliveries d ON d.id = e.delivery_id
          LEFT JOIN messages m ON m.id = d.message_id
          LEFT JOIN incident_notices n ON n.id = c.delivery_id AND c.type = 'provider.health_changed'
        """,
        list(shares),
        list(shares.values()),
        now,
        lease,
    )
    return [_claimed(dict(row)) for row in rows]


def _claimed(row: dict[str, Any]) -> Claimed:
    facts = None
    if row["tags"] is not None:
        facts = EventFacts(
            message_id=row["message_id"],
            channel=Channel(row["channel"]),
            recipient=row["recipient"],
            state=None if row["state"] is None else State(row["state"]),
            provider_id=row["provider_id"],
            attempt=row["attempt"],
            reason=row["reason"],
            detail=row["detail"],
            tags=tuple(row["tags"]),
            metadata=None if row["metadata"] is None else json.loads(row["metadata"]),
            idempotency_key=row["idempotency_key"],
        )
    notice = None
    if row["incident_id"] is not None:
        notice = NoticeFacts(
            channel=Channel(row["notice_channel"]),
            provider_id=row["notice_provider_id"],
            status=row["notice_status"],
            reason=row["notice_reason"],
            incident_id=row["incident_id"],
            incident=row["incident"],
        )
    own = {name: row[name] for name in Claimed._fields if name not in ("facts", "notice")}
    return Claimed(**own | {"type": WebhookType(row["type"])}, facts=facts, notice=notice)


async def settle(db: Db, results: Sequence[Result], *, now: datetime | None = None) -> None:
    """Record the results of claimed deliveries (at least one); one whose lease another process has taken is ignored.

    An endpoint is failing since the first of its attempts that failed after a success. An attempt that was made before
    the customer changed the endpoint says nothing about it.
    """
    row = columns(results)
    await db.execute(
        """
        WITH result AS (
            SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::timestamptz[], $5::text[],
                                 $6::timestamptz[], $7::smallint[], $8::timestamptz[], $9::int[], $10::smallint[],
                                 $11::text[], $12::text[], $13::timestamptz[])
                   AS r (delivery_id, sequence, endpoint_id, leased_until, status, due_at, number, started_at,
                         duration_ms, response_status, error, answer, endpoint_updated_at)
        ), settled AS (
            UPDATE webhook_deliveries w
               SET status = r.status, due_at = r.due_at, in_flight = false,
                   attempt_count = greatest(w.attempt_count, r.number),
                   retry_step = w.retry_step + (r.number > 0)::int,
                   finished_at = CASE WHEN r.due_at IS NULL THEN coalesce($14::timestamptz, now()) END
              FROM result r
             WHERE w.delivery_id = r.delivery_id AND w.sequence = r.sequence AND w.endpoint_id = r.endpoint_id
               AND w.in_flight AND w.due_at = r.leased_until
            RETURNING w.project_id, r.*
        ), recorded AS (
            INSERT INTO webhook_attempts (delivery_id, sequence, endpoint_id, number, project_id, started_at,
                                          duration_ms, status, error, answer)
            SELECT delivery_id, sequence, endpoint_id, number, project_id, started_at, duration_ms, response_status,
                   error, answer
              FROM settled WHERE number > 0
            ON CONFLICT DO NOTHING
        ), health AS (
            SELECT endpoint_id, endpoint_updated_at, bool_or(error IS NULL) AS succeeded, min(started_at) AS started_at
              FROM settled WHERE number > 0 GROUP BY endpoint_id, endpoint_updated_at
        )
        UPDATE webhook_endpoints w SET failing_since = CASE WHEN h.succeeded THEN NULL ELSE h.started_at END
          FROM health h
         WHERE w.id = h.endpoint_id AND w.updated_at = h.endpoint_updated_at
           AND (w.failing_since IS NULL) <> h.succeeded
        """,
        *row.values(),
        now,
    )


async def oldest_due_age(db: Db) -> float:
    """Seconds since the delivery fell due that waits the longest for a claim; 0 if none does."""
    age: float | None = await db.fetchval(
        f"""
        WITH RECURSIVE head AS (
            ({_NEXT_ENDPOINT.format(after=f"'{UUID(int=0)}'::uuid")})
            UNION ALL
            SELECT next_endpoint.* FROM head
             CROSS JOIN LATERAL ({_NEXT_ENDPOINT.format(after="head.endpoint_id")}) AS next_endpoint
        )
        SELECT extract(epoch FROM now() - min(due_at))::float8 FROM head
        """  # noqa: S608  constants of this file
    )
    return 0.0 if age is None else max(0.0, age)


# -- the log -------------------------------------------------------------------------------------------------------


async def list_deliveries(
    db: Db,
    endpoint_id: UUID,
    *,
    limit: int,
    before: UUID | None = None,
    status: WebhookStatus | None = None,
) -> list[WebhookDelivery]:
    """The newest deliveries to an endpoint of the caller, those older than the id ``before``."""
    rows = await db.fetch(
        f"""
        SELECT {_LISTED} FROM webhook_deliveries
         WHERE endpoint_id = $1 AND ($2::uuid IS NULL OR id < $2) AND ($3::text IS NULL OR status = $3)
           AND {_narrowed([] if status is None else [status])}
         ORDER BY id DESC
         LIMIT $4
        """,  # noqa: S608  a constant
        endpoint_id,
        before,
        status,
        limit,
    )
    return await _with_attempts(db, endpoint_id, rows)


async def find_delivery(db: Db, endpoint_id: UUID, webhook_delivery_id: UUID) -> WebhookDelivery | None:
    """One delivery to an endpoint of the caller; None if there is none with this id."""
    rows = await db.fetch(
        f"SELECT {_LISTED} FROM webhook_deliveries WHERE endpoint_id = $1 AND id = $2",  # noqa: S608  a constant
        endpoint_id,
        webhook_delivery_id,
    )
    found = await _with_attempts(db, endpoint_id, rows)
    return found[0] if found else None


def _narrowed(statuses: Sequence[WebhookStatus]) -> str:
    """A condition that lets PostgreSQL use the index of what an endpoint missed, where that contains all of it."""
    missed = (WebhookStatus.EXHAUSTED, WebhookStatus.SKIPPED)
    return "status IN ('EXHAUSTED', 'SKIPPED')" if statuses and set(statuses) <= set(missed) else "true"


_LISTED = "id, delivery_id, sequence, type, status, due_at, occurred_at, finished_at"


async def _with_attempts(db: Db, endpoint_id: UUID, rows: Sequence[Any]) -> list[WebhookDelivery]:
    attempts: dict[tuple[UUID, int], list[Attempt]] = defaultdict(list)
    for row in await db.fetch(
        """
        SELECT a.delivery_id, a.sequence, a.number, a.started_at, a.duration_ms, a.status, a.error, a.answer
          FROM unnest($1::uuid[], $2::smallint[]) AS k (delivery_id, sequence)
          JOIN webhook_attempts a ON a.delivery_id = k.delivery_id AND a.sequence = k.sequence AND a.endpoint_id = $3
         ORDER BY a.number
        """,
        [row["delivery_id"] for row in rows],
        [row["sequence"] for row in rows],
        endpoint_id,
    ):
        fields = dict(row)
        key = (fields.pop("delivery_id"), fields.pop("sequence"))
        attempts[key].append(Attempt(**fields))
    return [
        WebhookDelivery(
            **dict(row) | {"type": WebhookType(row["type"]), "status": WebhookStatus(row["status"])},
            attempts=tuple(attempts[row["delivery_id"], row["sequence"]]),
        )
        for row in rows
    ]


async def replay(db: Db, endpoint_id: UUID, webhook_delivery_id: UUID, *, now: datetime) -> bool:
    """Make a delivery due now, with the whole schedule before it; one in flight is left alone. Whether it exists."""
    found = await db.fetchval(
        """
        WITH replayed AS (
            UPDATE webhook_deliveries
               SET status = 'PENDING', due_at = $3, retry_step = 0, finished_at = NULL
             WHERE endpoint_id = $1 AND id = $2 AND NOT in_flight
        )
        SELECT true FROM webhook_deliveries WHERE endpoint_id = $1 AND id = $2
        """,
        endpoint_id,
        webhook_delivery_id,
        now,
    )
    return found is not None


class Replayed(NamedTuple):
    """The result of one step of a replay. ``last``: the id behind which the next step begins; None at the end."""

    number: int
    last: UUID | None


async def replay_range(
    db: Db,
    endpoint_id: UUID,
    statuses: Sequence[WebhookStatus],
    *,
    since: datetime,
    until: datetime,
    after: UUID | None,
    limit: int,
    now: datetime,
) -> Replayed:
    """Replay up to ``limit`` deliveries of events that happened in [``since``, ``until``), the oldest first.

    ``after``: the ``last`` of the step before. What is pending already is left alone.
    """
    rows = await db.fetch(
        f"""
        WITH chosen AS (
            SELECT delivery_id, sequence, endpoint_id, id FROM webhook_deliveries
             WHERE endpoint_id = $1 AND id > $2 AND id < $3 AND status = ANY($4::text[]) AND due_at IS NULL
               AND {_narrowed(statuses)}
             ORDER BY id LIMIT $5
               FOR UPDATE
        )
        UPDATE webhook_deliveries w
           SET status = 'PENDING', due_at = $6, retry_step = 0, finished_at = NULL
          FROM chosen c
         WHERE w.delivery_id = c.delivery_id AND w.sequence = c.sequence AND w.endpoint_id = c.endpoint_id
        RETURNING w.id
        """,  # noqa: S608  constants of this file
        endpoint_id,
        min_id_at(since) if after is None else after,
        min_id_at(until),
        [status.value for status in statuses],
        limit,
        now,
    )
    return Replayed(len(rows), max(row["id"] for row in rows) if len(rows) == limit else None)
