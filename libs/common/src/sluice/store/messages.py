"""Queries of messages with their history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sluice.model.ids import millisecond_range
from sluice.model.message import Channel
from sluice.model.state import NOT_SENT, State, message_state
from sluice.store.db import Db
from sluice.store.message_list import DELIVERY_MARKS, deliveries_of
from sluice.store.projects import ProjectScope
from sluice.store.taken import taken_by

MAX_SHOWN = 50
"""Deliveries whose history one view of a message has."""

# Rows of one view. Each delivery has an equal part of them: its first and its newest ones, of receipts its first ones.
_MAX_EVENTS, _MAX_ATTEMPTS, _MAX_RECEIPTS = 1_000, 500, 500


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a delivery's history. ``routing_decision``: of an attempt, JSON, see sluice.routing.decision."""

    delivery_id: UUID
    sequence: int
    type: str
    state: str | None
    occurred_at: datetime
    attempt: int | None
    provider_id: UUID | None
    reason: str | None
    recipient: str
    detail: str
    routing_decision: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a provider. ``outcome``: None while it is in flight; ``error``: the provider's words, redacted;
    ``routing_decision``: JSON, see sluice.routing.decision.
    """

    number: int
    provider_id: UUID
    retry_round: int
    client_reference: str
    provider_message_id: str | None
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    error: str | None
    routing_decision: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's later statement about an attempt."""

    attempt: int
    provider_id: UUID
    type: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery and its state; in :attr:`MessageView.shown` with its attempts and receipts, in order.

    ``failed_over``: several providers were called. ``may_be_doubled``: it may have arrived twice, because several calls
    may have reached a provider that were not repeated under one key. ``taken_by``: the provider that has it.
    """

    id: UUID
    recipient: str
    state: State
    attempt_count: int
    event_count: int
    taken_by: UUID | None
    due_at: datetime | None
    failed_over: bool
    may_be_doubled: bool
    attempts: tuple[Attempt, ...] = ()
    receipts: tuple[Receipt, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message with its deliveries, in order. ``shown``: those of them that have their attempts and receipts here;
    ``events``: of these. ``next``: the delivery after which the next view begins, None at the end.
    """

    id: UUID
    project_id: UUID
    channel: str
    delivery_class: str
    sender: str | None
    content: str
    tags: tuple[str, ...]
    metadata: str | None
    template_id: UUID | None
    template_version: int | None
    created_at: datetime
    deliveries: tuple[Delivery, ...]
    shown: tuple[Delivery, ...] = ()
    events: tuple[Event, ...] = ()
    next: UUID | None = None

    @property
    def state(self) -> State:
        """The status of the message."""
        return message_state(delivery.state for delivery in self.deliveries)


async def find(db: Db, project: ProjectScope, message_id: UUID) -> MessageView | None:
    """The message without its history; None if the project has none with this id."""
    row = await db.fetchrow(
        """
        SELECT id, project_id, channel, delivery_class, sender, content, tags, metadata, template_id, template_version,
               created_at
          FROM messages WHERE id = $1 AND project_id = $2 AND sandbox = $3
        """,
        message_id,
        *project,
    )
    if row is None:
        return None
    deliveries = await _deliveries(db, message_id)
    return MessageView(**(dict(row) | {"tags": tuple(row["tags"])}), deliveries=tuple(deliveries))


async def find_with_history(
    db: Db, project: ProjectScope, message_id: UUID, *, after: UUID | None = None
) -> MessageView | None:
    """The message with the history of at most :data:`MAX_SHOWN` deliveries, those that follow ``after``.

    None if the project has no message with this id.
    """
    message = await find(db, project, message_id)
    if message is None:
        return None
    following = [one for one in message.deliveries if after is None or one.id > after]
    page = following[:MAX_SHOWN]
    attempts, receipts = await _attempts(db, page), await _receipts(db, page)
    return replace(
        message,
        shown=tuple(
            replace(one, attempts=tuple(attempts.get(one.id, ())), receipts=tuple(receipts.get(one.id, ())))
            for one in page
        ),
        events=tuple(await _events(db, page)),
        next=page[-1].id if len(following) > len(page) else None,
    )


async def _deliveries(db: Db, message_id: UUID) -> list[Delivery]:
    # The ids of deliveries have the millisecond of their message's id: the primary key finds them.
    rows = await db.fetch(
        f"""
        SELECT id, recipient, state, attempt_count, last_event_sequence AS event_count, due_at,
               {taken_by("deliveries")} AS taken_by,
               {", ".join(f"{mark} AS {name}" for name, mark in DELIVERY_MARKS.items())}
          FROM deliveries WHERE id BETWEEN $2 AND $3 AND message_id = $1 ORDER BY id
        """,  # noqa: S608  constants
        message_id,
        *millisecond_range(message_id),
    )
    return [Delivery(**(dict(row) | {"state": State(row["state"])})) for row in rows]


async def _attempts(db: Db, page: Sequence[Delivery]) -> dict[UUID, list[Attempt]]:
    found: dict[UUID, list[Attempt]] = {}
    for row in await db.fetch(
        """
        SELECT a.delivery_id, a.number, a.provider_id, a.retry_round, a.client_reference, a.provider_message_id,
               a.started_at, a.finished_at, a.outcome, a.error, a.routing_decision
          FROM attempts a JOIN unnest($1::uuid[], $2::int[]) AS shown (id, last) ON shown.id = a.delivery_id
         WHERE a.delivery_id = ANY($1) AND (a.number <= $3 OR a.number > shown.last - $3)
         ORDER BY a.delivery_id, a.number
        """,
        [one.id for one in page],
        [one.attempt_count for one in page],
        _part(_MAX_ATTEMPTS, page) // 2,
    ):
        fields = dict(row)
        found.setdefault(fields.pop("delivery_id"), []).append(Attempt(**fields))
    return found


async def _receipts(db: Db, page: Sequence[Delivery]) -> dict[UUID, list[Receipt]]:
    found: dict[UUID, list[Receipt]] = {}
    for row in await db.fetch(
        """
        SELECT delivery_id, attempt, provider_id, type, received_at
          FROM (SELECT *, row_number() OVER (PARTITION BY delivery_id ORDER BY received_at, receipt_id) AS place
                  FROM receipts WHERE delivery_id = ANY($1::uuid[])) AS r
         WHERE place <= $2
         ORDER BY delivery_id, place
        """,
        [one.id for one in page],
        _part(_MAX_RECEIPTS, page),
    ):
        fields = dict(row)
        found.setdefault(fields.pop("delivery_id"), []).append(Receipt(**fields))
    return found


async def _events(db: Db, page: Sequence[Delivery]) -> list[Event]:
    rows: list[Any] = await db.fetch(
        """
        SELECT e.delivery_id, e.sequence, e.type, e.state, e.occurred_at, e.attempt, e.provider_id, e.reason, e.detail,
               coalesce(nullif(e.recipient, ''), shown.recipient) AS recipient, a.routing_decision
          FROM events e
          JOIN unnest($1::uuid[], $2::int[], $3::text[]) AS shown (id, last, recipient) ON shown.id = e.delivery_id
          LEFT JOIN attempts a ON a.delivery_id = e.delivery_id AND a.number = e.attempt AND e.type = 'sending'
         WHERE e.delivery_id = ANY($1) AND (e.sequence <= $4 OR e.sequence > shown.last - $4)
         ORDER BY max(e.occurred_at) OVER (PARTITION BY e.delivery_id ORDER BY e.sequence), e.delivery_id, e.sequence
        """,
        [one.id for one in page],
        [one.event_count for one in page],
        [one.recipient for one in page],
        _part(_MAX_EVENTS, page) // 2,
    )
    return [Event(**row) for row in rows]


def _part(rows: int, page: Sequence[Delivery]) -> int:
    """The rows of each delivery, if all of them together have at most ``rows``."""
    return rows // max(1, len(page))


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What became of a delivery. ``provider_id``: of the provider that took it, else of the newest attempt.

    ``reason`` and ``error``: of one that was not sent; the error is the newest provider's own text where there is one.
    """

    id: UUID
    recipient: str
    state: State
    provider_id: UUID | None
    reason: str | None
    error: str


async def find_results(db: Db, message_ids: Sequence[UUID]) -> dict[UUID, list[DeliveryResult]]:
    """The deliveries of messages of the transaction's projects, in order, by message; settled or not."""
    ranges = [millisecond_range(message_id) for message_id in message_ids]
    rows = await db.fetch(
        f"""
        SELECT d.message_id, d.id, d.recipient, d.state, coalesce({taken_by("d")}, d.provider_id), e.reason,
               coalesce(nullif(a.error, ''), e.detail, '') AS error
          FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS wanted (id, first, last)
          JOIN deliveries d ON d.id BETWEEN wanted.first AND wanted.last AND d.message_id = wanted.id
          LEFT JOIN LATERAL (
               SELECT reason, detail FROM events
                WHERE delivery_id = d.id AND type IN ('failed', 'expired', 'unconfirmed', 'cancelled')
                ORDER BY sequence DESC LIMIT 1) AS e ON d.state = ANY($4::text[])
          LEFT JOIN LATERAL (
               SELECT error FROM attempts
                WHERE delivery_id = d.id AND outcome <> 'accepted'
                ORDER BY number DESC LIMIT 1) AS a ON d.state = ANY($4::text[])
         ORDER BY d.id
        """,  # noqa: S608  a constant
        list(message_ids),
        [first for first, _ in ranges],
        [last for _, last in ranges],
        [state.value for state in NOT_SENT],
    )
    found: dict[UUID, list[DeliveryResult]] = {message_id: [] for message_id in message_ids}
    for message_id, delivery_id, recipient, state, *rest in rows:
        found[message_id].append(DeliveryResult(delivery_id, recipient, State(state), *rest))
    return found


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A delivery with everything that a new message like it needs. ``content``: JSON, empty where it was erased."""

    id: UUID
    channel: Channel
    state: State
    recipient: str
    envelope: tuple[str, ...] | None
    delivery_class: str
    sender: str | None
    content: str
    tags: tuple[str, ...]
    metadata: str | None
    template_id: UUID | None
    template_version: int | None


async def find_deliveries(
    db: Db, project: ProjectScope, message_ids: Sequence[UUID], states: Sequence[str], *, limit: int | None = None
) -> dict[UUID, UUID]:
    """The ids of the deliveries of these messages that have one of the states, each with its message's id.

    The deliveries of the newest message come first; ``limit``: None for all of them.
    """
    wanted = "project_id = $2 AND sandbox = $3 AND state = ANY($4::text[])"
    rows = await db.fetch(
        f"""
        SELECT d.id, d.message_id
          FROM (SELECT * FROM unnest($1::uuid[]) AS k (id)
                 LIMIT cardinality($1)  -- see sluice.store.db
               ) AS k
         CROSS JOIN LATERAL {deliveries_of("k.id", "id, message_id", where=wanted)} AS d
         ORDER BY d.message_id DESC, d.id
         LIMIT $5
        """,  # noqa: S608  a constant
        list(message_ids),
        *project,
        list(states),
        limit,
    )
    return {row["id"]: row["message_id"] for row in rows}


# The project's deliveries with these ids, and their messages.
_OF_DELIVERIES = """
          FROM (SELECT * FROM unnest($1::uuid[]) AS k (id)
                 LIMIT cardinality($1)  -- see sluice.store.db
               ) AS k
          JOIN deliveries d ON d.id = k.id
          JOIN messages m ON m.id = d.message_id
         WHERE d.project_id = $2 AND d.sandbox = $3
"""


async def find_content_sizes(db: Db, project: ProjectScope, delivery_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The bytes of the content of each of the project's deliveries with these ids, without reading it."""
    rows = await db.fetch(
        f"SELECT d.id, octet_length(m.content) AS size {_OF_DELIVERIES}",
        list(delivery_ids),
        *project,
    )
    return {row["id"]: row["size"] for row in rows}


async def find_for_retry(db: Db, project: ProjectScope, delivery_ids: Sequence[UUID]) -> dict[UUID, StoredDelivery]:
    """The project's deliveries with these ids, with the content of their messages."""
    rows = await db.fetch(
        f"""
        SELECT d.id, d.channel, d.state, d.recipient, d.envelope, d.delivery_class, m.sender, m.content, m.tags,
               m.metadata, m.template_id, m.template_version
          {_OF_DELIVERIES}
        """,
        list(delivery_ids),
        *project,
    )
    return {
        row["id"]: StoredDelivery(
            **dict(row)
            | {
                "channel": Channel(row["channel"]),
                "state": State(row["state"]),
                "envelope": None if row["envelope"] is None else tuple(row["envelope"]),
                "tags": tuple(row["tags"]),
            }
        )
        for row in rows
    }


async def find_sandbox(db: Db, project_id: UUID, delivery_ids: Sequence[UUID]) -> dict[UUID, bool]:
    """Whether each delivery belongs to a test message; without those that the project has not."""
    rows = await db.fetch(
        "SELECT id, sandbox FROM deliveries WHERE id = ANY($1::uuid[]) AND project_id = $2",
        list(delivery_ids),
        project_id,
    )
    return {row["id"]: row["sandbox"] for row in rows}


async def keep_attachments(db: Db, project_id: UUID, digests: Sequence[str], *, now: datetime) -> frozenset[str]:
    """Those of the attachments that are still stored; retention counts their time again from ``now``."""
    rows = await db.fetch(
        """
        WITH kept AS (
            UPDATE attachments SET used_at = $3
             WHERE project_id = $1 AND sha256 = ANY($2::text[]) AND used_at < $3::timestamptz - interval '1 day'
        )
        SELECT sha256 FROM attachments WHERE project_id = $1 AND sha256 = ANY($2::text[])
        """,
        project_id,
        list(digests),
        now,
    )
    return frozenset(row["sha256"] for row in rows)


async def load_attachments(db: Db, project_id: UUID, digests: list[str]) -> dict[str, bytes]:
    """The contents of attachments by SHA-256."""
    rows = await db.fetch(
        "SELECT sha256, content FROM attachments WHERE project_id = $1 AND sha256 = ANY($2::text[])",
        project_id,
        digests,
    )
    return {row["sha256"]: row["content"] for row in rows}
