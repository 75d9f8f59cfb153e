"""Suppressions: addresses that a project sends nothing to on a channel. All statements take batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.model.suppression import SuppressionReason
from sluice.store import projects
from sluice.store.db import Db, columns


class Recipient(NamedTuple):
    """A normalised address (:func:`sluice.model.suppression.normalise_address`) on a channel of a project."""

    project_id: UUID
    channel: Channel
    address: str


class NewSuppression(NamedTuple):
    """A suppression and where it comes from. ``detail``: the provider's words, or a note."""

    recipient: Recipient
    reason: SuppressionReason
    detail: str = ""
    delivery_id: UUID | None = None
    event_sequence: int | None = None
    provider_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Suppression:
    """One row."""

    id: UUID
    channel: Channel
    address: str
    reason: SuppressionReason
    detail: str
    delivery_id: UUID | None
    message_id: UUID | None
    event_sequence: int | None
    provider_id: UUID | None
    created_at: datetime


class Filter(NamedTuple):
    """Which suppressions of a project; None: any. ``since`` is included, ``until`` is not."""

    channel: Channel | None = None
    address: str | None = None
    reason: SuppressionReason | None = None
    provider_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


async def add(db: Db, new: Sequence[NewSuppression], *, now: datetime) -> list[Recipient]:
    """Suppress addresses; those that were not suppressed before, in the order of ``new``.

    A suppressed address keeps its first reason. A deleted project gets none: they would stay for ever.
    """
    firsts = {one.recipient: one for one in reversed(new)}
    ordered = [firsts[recipient] for recipient in sorted(firsts)]  # concurrent statements lock in the same order
    if not ordered:
        return []
    recipients = columns([one.recipient for one in ordered])
    rows = await db.fetch(
        f"""
        WITH live AS ({projects.live("$2::uuid[]", "FOR NO KEY UPDATE")}), added AS (
            INSERT INTO suppressions (id, project_id, channel, address, reason, detail, delivery_id, event_sequence,
                                      provider_id, created_at)
            SELECT n.id, n.project_id, n.channel, n.address, n.reason, n.detail, n.delivery_id, n.event_sequence,
                   n.provider_id, $10
              FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[],
                          $8::smallint[], $9::uuid[])
                AS n (id, project_id, channel, address, reason, detail, delivery_id, event_sequence, provider_id)
              JOIN live ON live.id = n.project_id
            ON CONFLICT ON CONSTRAINT suppressions_once DO NOTHING
            RETURNING project_id, channel, address
        ), flagged AS (
            UPDATE projects SET has_suppressions = true
             WHERE id IN (SELECT project_id FROM added) AND NOT has_suppressions
        )
        SELECT project_id, channel, address FROM added
        """,  # noqa: S608  a constant
        [uuid7() for _ in ordered],
        *recipients.values(),
        [one.reason.value for one in ordered],
        [one.detail for one in ordered],
        [one.delivery_id for one in ordered],
        [one.event_sequence for one in ordered],
        [one.provider_id for one in ordered],
        now,
    )
    added = {Recipient(row["project_id"], Channel(row["channel"]), row["address"]) for row in rows}
    return [recipient for recipient in dict.fromkeys(one.recipient for one in new) if recipient in added]


async def find(db: Db, recipients: Sequence[Recipient]) -> dict[Recipient, SuppressionReason]:
    """The suppressed ones of ``recipients``, with the reason."""
    distinct = list(dict.fromkeys(recipients))
    if not distinct:
        return {}
    rows = await db.fetch(
        """
        SELECT s.project_id, s.channel, s.address, s.reason
          FROM (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r (project_id, channel, address)
                 LIMIT cardinality($1)  -- see sluice.store.db
               ) AS wanted
          JOIN suppressions s USING (project_id, channel, address)
        """,
        *columns(distinct).values(),
    )
    return {
        Recipient(row["project_id"], Channel(row["channel"]), row["address"]): SuppressionReason(row["reason"])
        for row in rows
    }


_CONDITIONS = {
    "channel": "s.channel = ${}",
    "address": "s.address = ${}",
    "reason": "s.reason = ${}",
    "provider_id": "s.provider_id = ${}",
    "since": "s.created_at >= ${}",
    "until": "s.created_at < ${}",
}


def _condition(project_id: UUID, filters: Filter) -> tuple[str, list[Any]]:
    """The condition of the filters and its arguments. Only those that are given: one statement for all would not use
    the index of the addresses.
    """
    conditions, arguments = ["s.project_id = $1"], [project_id]
    for name, value in filters._asdict().items():
        if value is not None:
            arguments.append(value)
            conditions.append(_CONDITIONS[name].format(len(arguments)))
    return " AND ".join(conditions), arguments


_COLUMNS = """
    s.id, s.channel, s.address, s.reason, s.detail, s.delivery_id, s.event_sequence, s.provider_id, s.created_at,
    (SELECT d.message_id FROM deliveries d WHERE d.id = s.delivery_id) AS message_id
"""


async def list_suppressions(
    db: Db, project_id: UUID, filters: Filter, *, limit: int, before: UUID | None
) -> list[Suppression]:
    """The newest suppressions of a project that match, those older than the id ``before``."""
    condition, arguments = _condition(project_id, filters)
    if before is not None:
        arguments.append(before)
        condition += f" AND s.id < ${len(arguments)}"
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM suppressions s WHERE {condition} ORDER BY s.id DESC LIMIT ${len(arguments) + 1}",  # noqa: S608
        *arguments,
        limit,
    )
    return [_suppression(row) for row in rows]


async def list_named(db: Db, recipients: Sequence[Recipient]) -> dict[Recipient, Suppression]:
    """The suppressions of these recipients of one project, by recipient."""
    rows = await db.fetch(
        f"""
        SELECT s.project_id, {_COLUMNS}
          FROM (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r (project_id, channel, address)
                 LIMIT cardinality($1)  -- see sluice.store.db
               ) AS wanted
          JOIN suppressions s USING (project_id, channel, address)
        """,  # noqa: S608  a constant
        *columns(list(dict.fromkeys(recipients))).values(),
    )
    found = {}
    for row in rows:
        fields = dict(row)
        project_id = fields.pop("project_id")
        suppression = _suppression(fields)
        found[Recipient(project_id, suppression.channel, suppression.address)] = suppression
    return found


async def find_suppression(db: Db, project_id: UUID, suppression_id: UUID) -> Suppression | None:
    """One suppression; None if the project has none with this id."""
    row = await db.fetchrow(
        f"SELECT {_COLUMNS} FROM suppressions s WHERE s.project_id = $1 AND s.id = $2",  # noqa: S608  a constant
        project_id,
        suppression_id,
    )
    return None if row is None else _suppression(row)


async def remove(db: Db, project_id: UUID, suppression_id: UUID) -> Suppression | None:
    """Delete a suppression and return it; None if the project has none with this id."""
    row = await db.fetchrow(
        f"DELETE FROM suppressions s WHERE s.project_id = $1 AND s.id = $2 RETURNING {_COLUMNS}",  # noqa: S608
        project_id,
        suppression_id,
    )
    return None if row is None else _suppression(row)


async def remove_matching(db: Db, project_id: UUID, filters: Filter) -> int:
    """Delete all suppressions of a project that match; their number."""
    condition, arguments = _condition(project_id, filters)
    status = await db.execute(
        f"DELETE FROM suppressions s WHERE {condition}",  # noqa: S608  constants of this file
        *arguments,
        timeout=60.0,
    )
    return int(status.rpartition(" ")[2])


class EventSource(NamedTuple):
    """An event whose recipient may have to be suppressed."""

    delivery_id: UUID
    sequence: int


class EventRecipients(NamedTuple):
    """An event, and the recipients of its delivery as they were written.

    ``named``: the one that a receipt names; ``addresses``: all that the delivery is for, none where they were erased
    with the content of the mail. ``sole_recipient``: what is kept of them, None if there were several.
    """

    source: EventSource
    type: str
    reason: str | None
    detail: str
    provider_id: UUID | None
    project_id: UUID
    channel: Channel
    sandbox: bool
    named: str | None
    addresses: tuple[str, ...]
    sole_recipient: str | None


async def recipients_of_events(db: Db, events: Sequence[EventSource]) -> list[EventRecipients]:
    """The recipients of events that exist."""
    rows = await db.fetch(
        """
        SELECT k.delivery_id, k.sequence, e.type, e.reason, e.detail, e.provider_id, d.project_id, d.channel,
               d.sandbox, e.recipient AS named, a.addresses,
               CASE WHEN d.envelope IS NULL THEN d.recipient END AS sole_recipient
          FROM (SELECT * FROM unnest($1::uuid[], $2::smallint[]) AS k (delivery_id, sequence)
                 LIMIT cardinality($1)  -- see sluice.store.db
               ) AS k
          JOIN events e ON e.delivery_id = k.delivery_id AND e.sequence = k.sequence
          JOIN deliveries d ON d.id = k.delivery_id
          JOIN addresses_of_deliveries($3::uuid[]) AS a ON a.delivery_id = k.delivery_id
        """,
        [one.delivery_id for one in events],
        [one.sequence for one in events],
        list({one.delivery_id for one in events}),
    )
    return [
        EventRecipients(
            EventSource(row["delivery_id"], row["sequence"]),
            row["type"],
            row["reason"],
            row["detail"],
            row["provider_id"],
            row["project_id"],
            Channel(row["channel"]),
            row["sandbox"],
            row["named"],
            tuple(row["addresses"]),
            row["sole_recipient"],
        )
        for row in rows
    ]


async def addresses_of_deliveries(db: Db, delivery_ids: Sequence[UUID]) -> dict[UUID, tuple[str, ...]]:
    """The addresses that each of these deliveries is for, as they were written."""
    rows = await db.fetch("SELECT delivery_id, addresses FROM addresses_of_deliveries($1::uuid[])", list(delivery_ids))
    return {row["delivery_id"]: tuple(row["addresses"]) for row in rows}


def _suppression(row: Mapping[str, Any]) -> Suppression:
    fields = dict(row)
    return Suppression(
        **fields | {"channel": Channel(fields["channel"]), "reason": SuppressionReason(fields["reason"])}
    )
