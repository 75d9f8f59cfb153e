"""What was sent recently, as far as routing decides by it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sluice.model.ids import min_id_at
from sluice.store.db import Db
from sluice.store.message_list import deliveries_of
from sluice.store.projects import ProjectScope


class RecentDelivery(NamedTuple):
    """A delivery, without its content."""

    recipient: str
    delivery_class: str
    preferred_provider_id: UUID | None


async def list_recent(
    db: Db, project: ProjectScope, channel: str, *, since: datetime, limit: int
) -> list[RecentDelivery]:
    """The newest deliveries of a channel whose message was made after ``since``, newest first."""
    rows = await db.fetch(
        f"""
        SELECT d.recipient, d.delivery_class, d.preferred_provider_id
          FROM (SELECT id FROM messages
                 WHERE project_id = $1 AND sandbox = $2 AND channel = $3 AND id >= $4
                 ORDER BY id DESC LIMIT $5) AS m
         CROSS JOIN LATERAL {deliveries_of("m.id", "recipient, delivery_class, preferred_provider_id")} AS d
         LIMIT $5
        """,  # noqa: S608  a constant
        *project,
        channel,
        min_id_at(since),
        limit,
    )
    return [RecentDelivery(*row) for row in rows]


class RecordedAttempt(NamedTuple):
    """An attempt that has ended, or is in flight (without ``finished_at`` and ``outcome``)."""

    provider_id: UUID
    retry_round: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None


class RecordedDelivery(NamedTuple):
    """A delivery with its attempts in their order, without its content."""

    id: UUID
    message_id: UUID
    recipient: str
    delivery_class: str
    preferred_provider_id: UUID | None
    expires_at: datetime
    segments: int
    attempts: tuple[RecordedAttempt, ...]


async def list_recorded(
    db: Db,
    project: ProjectScope,
    channel: str,
    *,
    since: datetime,
    until: datetime,
    before: UUID | None = None,
    limit: int = 5000,
) -> list[RecordedDelivery]:
    """The deliveries of the newest ``limit`` messages that were made between two times, newest first.

    A page begins below ``before``, the smallest message id of the page before. Two statements, whatever the limit.
    """
    rows = await db.fetch(
        f"""
        WITH page AS MATERIALIZED (
            SELECT id FROM messages
             WHERE project_id = $1 AND sandbox = $2 AND channel = $3 AND id >= $4 AND id < $5
             ORDER BY id DESC LIMIT $6)
        SELECT d.id, d.message_id, d.recipient, d.delivery_class, d.preferred_provider_id, d.expires_at, d.segments
          FROM page
         CROSS JOIN LATERAL {deliveries_of("page.id", "*")} AS d
         ORDER BY d.message_id DESC, d.id DESC
        """,  # noqa: S608  a constant
        *project,
        channel,
        min_id_at(since),
        before or min_id_at(until),
        limit,
    )
    if not rows:
        return []
    attempts: dict[UUID, list[RecordedAttempt]] = {row["id"]: [] for row in rows}
    for delivery_id, *fields in await db.fetch(
        """
        SELECT delivery_id, provider_id, retry_round, started_at, finished_at, outcome
          FROM attempts
         WHERE delivery_id = ANY($1::uuid[]) AND delivery_id BETWEEN $2 AND $3
         ORDER BY delivery_id, number
        """,
        list(attempts),
        min(attempts),
        max(attempts),
    ):
        attempts[delivery_id].append(RecordedAttempt(*fields))
    return [RecordedDelivery(**row, attempts=tuple(attempts[row["id"]])) for row in rows]
