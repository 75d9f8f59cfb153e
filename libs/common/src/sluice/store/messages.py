"""Queries of messages with their history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from sluice.model.ids import millisecond_range
from sluice.model.message import Channel
from sluice.model.state import NOT_SENT, State, message_state
from sluice.store.db import Db
from sluice.store.message_list import deliveries_of
from sluice.store.projects import ProjectScope
from sluice.store.taken import taken_by


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a delivery's history."""

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
    routing_decision: Mapping[str, Any] | None  # of an attempt: see sluice.routing.decision


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a provider. ``outcome``: None while it is in flight; ``error``: the provider's words, redacted."""

    number: int
    provider_id: UUID
    retry_round: int
    client_reference: str
    provider_message_id: str | None
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    error: str | None
    routing_decision: Mapping[str, Any] | None  # see sluice.routing.decision


@dataclass(frozen=True, slots=True)
class Receipt:
    """A provider's later statement about an attempt."""

    attempt: int
    provider_id: UUID
    type: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery and its state, with its attempts and receipts in order. ``taken_by``: the provider that has it."""

    id: UUID
    recipient: str
    state: State
    attempt_count: int
    taken_by: UUID | None
    due_at: datetime | None
    attempts: tuple[Attempt, ...] = ()
    receipts: tuple[Receipt, ...] = ()

    @property
    def failed_over(self) -> bool:
        """Whether several providers were called."""
        return len({attempt.provider_id for attempt in self.attempts}) > 1

    @property
    def may_be_doubled(self) -> bool:
        """Whether it may have arrived twice: calls that may have reached a provider, not repeated under one key."""
        return len({one.client_reference for one in self.attempts if one.outcome in (None, "accepted", "unknown")}) > 1


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message with its deliveries and their events, in order."""

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
    events: tuple[Event, ...]

    @property
    def state(self) -> State:
        """The status of the message."""
        return message_state(delivery.state for delivery in self.deliveries)


async def find(db: Db, project: ProjectScope, message_id: UUID) -> MessageView | None:
    """The message; None if the project has none with this id."""
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
    fields = dict(row)
    fields["tags"] = tuple(fields["tags"])
    return MessageView(
        **fields,
        deliveries=tuple(deliveries),
        events=tuple(await _events(db, {delivery.id: delivery.recipient for delivery in deliveries})),
    )


async def _deliveries(db: Db, message_id: UUID) -> list[Delivery]:
    # The ids of deliveries have the millisecond of their message's id: the primary key finds them.
    rows = await db.fetch(
        f"""
        SELECT id, recipient, state, attempt_count, {taken_by("deliveries")} AS taken_by, due_at
          FROM deliveries WHERE id BETWEEN $2 AND $3 AND message_id = $1 ORDER BY id
        """,  # noqa: S608  a constant
        message_id,
        *millisecond_range(message_id),
    )
    ids = [row["id"] for row in rows]
    attempts, receipts = await _attempts(db, ids), await _receipts(db, ids)
    return [
        Delivery(
            **(dict(row) | {"state": State(row["state"])}),
            attempts=tuple(attempts.get(row["id"], ())),
            receipts=tuple(receipts.get(row["id"], ())),
        )
        for row in rows
    ]


async def _attempts(db: Db, delivery_ids: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    found: dict[UUID, list[Attempt]] = {}
    for row in await db.fetch(
        """
        SELECT delivery_id, number, provider_id, retry_round, client_reference, provider_message_id, started_at,
               finished_at, outcome, error, routing_decision
          FROM attempts WHERE delivery_id = ANY($1::uuid[]) ORDER BY delivery_id, number
        """,
        list(delivery_ids),
    ):
        fields = dict(row) | {"routing_decision": orjson.loads(row["routing_decision"]) or None}
        found.setdefault(fields.pop("delivery_id"), []).append(Attempt(**fields))
    return found


async def _receipts(db: Db, delivery_ids: Sequence[UUID]) -> dict[UUID, list[Receipt]]:
    found: dict[UUID, list[Receipt]] = {}
    for row in await db.fetch(
        """
        SELECT delivery_id, attempt, provider_id, type, received_at FROM receipts
         WHERE delivery_id = ANY($1::uuid[]) ORDER BY delivery_id, received_at, receipt_id
        """,
        list(delivery_ids),
    ):
        fields = dict(row)
        found.setdefault(fields.pop("delivery_id"), []).append(Receipt(**fields))
    return found


async def _events(db: Db, recipients: dict[UUID, str]) -> list[Event]:
    rows: list[Any] = await db.fetch(
        """
        SELECT e.delivery_id, e.sequence, e.type, e.state, e.occurred_at, e.attempt, e.provider_id, e.reason, e.detail,
               e.recipient, a.routing_decision
          FROM events e
          LEFT JOIN attempts a ON a.delivery_id = e.delivery_id AND a.number = e.attempt AND e.type = 'sending'
         WHERE e.delivery_id = ANY($1::uuid[])
         ORDER BY max(e.occurred_at) OVER (PARTITION BY e.delivery_id ORDER BY e.sequence), e.delivery_id, e.sequence
        """,
        list(recipients),
    )
    return [_event(dict(row), recipients) for row in rows]


def _event(fields: dict[str, Any], recipients: dict[UUID, str]) -> Event:
    decision = fields.pop("routing_decision")
    known = None if decision is None else orjson.loads(decision)
    recipient = fields.pop("recipient") or recipients[fields["delivery_id"]]
    return Event(**fields, recipient=recipient, routing_decision=known or None)


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
