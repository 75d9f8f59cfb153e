"""Backlog queries: deliveries that wait in PostgreSQL until they are due, and then for the dispatch queue.

Each project has its own queue, so that one project's backlog never delays another project.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sluice.model.message import Channel
from sluice.store.db import Db
from sluice.store.recovery import NOW, PendingDelivery, from_row, pending_query

# The condition of the index deliveries_backlog_idx.
_BACKLOGGED = "due_at IS NOT NULL AND enqueued_at IS NULL AND NOT in_flight"
_MAX_COUNTED = 50_000  # rows; nothing is decided by a larger number


@dataclass(frozen=True, slots=True)
class ProjectQueue:
    """The backlog of one project on one channel; urgent deliveries have a queue of their own."""

    standard: bool  # every class except urgent
    project_id: UUID


@dataclass(frozen=True, slots=True)
class QueueSlice:
    """The deliveries of one project, channel and rank in the dispatch queue."""

    project_id: UUID
    channel: Channel
    urgent: bool


async def count_enqueued(db: Db) -> dict[QueueSlice, int]:
    """Count the deliveries in the dispatch queue."""
    rows = await db.fetch(
        """
        SELECT project_id, channel, delivery_class = 'urgent' AS urgent, count(*) AS size
          FROM (SELECT project_id, channel, delivery_class FROM dispatch_queue LIMIT $1) AS counted
         GROUP BY 1, 2, 3
        """,
        _MAX_COUNTED,
    )
    return {QueueSlice(row["project_id"], Channel(row["channel"]), row["urgent"]): row["size"] for row in rows}


async def count_due(db: Db, *, now: datetime | None = None) -> dict[Channel, int]:
    """Count the deliveries that are due and not enqueued, by channel, up to 50,000 of all."""
    rows = await db.fetch(
        f"""
        SELECT channel, count(*) AS size FROM (
            SELECT channel FROM deliveries
             WHERE due_at <= {NOW} AND due_at IS NOT NULL AND enqueued_at IS NULL LIMIT $2) AS due
         GROUP BY channel
        """,  # noqa: S608  a constant
        now,
        _MAX_COUNTED,
    )
    return {Channel(row["channel"]): row["size"] for row in rows}


async def list_project_queues(
    db: Db, channel: Channel, *, after: ProjectQueue | None, limit: int, now: datetime | None = None
) -> list[ProjectQueue]:
    """Up to ``limit`` queues with a due delivery, in a fixed order, from the one behind ``after`` (None: the first).

    Costs one index lookup per queue, whatever its length.
    """
    start = (False, UUID(int=0)) if after is None else (after.standard, after.project_id)
    rows = await db.fetch(
        f"""
        WITH RECURSIVE head AS (
            ({_NEXT_QUEUE.format(standard="$3::boolean", project="$4::uuid")})
            UNION ALL
            SELECT next_queue.*
              FROM head CROSS JOIN LATERAL (
                   {_NEXT_QUEUE.format(standard="head.standard", project="head.project_id")}) AS next_queue
        )
        SELECT standard, project_id FROM head WHERE due_at <= {NOW} LIMIT $5
        """,  # noqa: S608  constants of this file
        now,
        channel.value,
        *start,
        limit,
    )
    return [ProjectQueue(row["standard"], row["project_id"]) for row in rows]


_NEXT_QUEUE = f"""
    SELECT delivery_class <> 'urgent' AS standard, project_id, due_at FROM deliveries
     WHERE {_BACKLOGGED} AND channel = $2 AND (delivery_class <> 'urgent', project_id) > ({{standard}}, {{project}})
     ORDER BY delivery_class <> 'urgent', project_id, due_at
     LIMIT 1
"""  # noqa: S608  constants of this file


async def dequeue(
    db: Db,
    channel: Channel,
    shares: Mapping[ProjectQueue, int],
    *,
    requeue_after: timedelta,
    now: datetime | None = None,
) -> list[PendingDelivery]:
    """Mark deliveries as enqueued and return them, up to the given number per queue, the longest due first.

    Each delivery is returned to one caller; expired deliveries are among them. A delivery whose task is not published
    is requeued after ``requeue_after``.
    """
    rows = await db.fetch(
        f"""
        WITH due AS (  -- the first of each queue, locked
            SELECT first.id
              FROM unnest($3::boolean[], $4::uuid[], $5::int[]) AS queue (standard, project_id, share)
             CROSS JOIN LATERAL (
                   SELECT id FROM deliveries
                    WHERE {_BACKLOGGED} AND due_at <= {NOW} AND channel = $2
                      AND (delivery_class <> 'urgent') = queue.standard AND project_id = queue.project_id
                    ORDER BY due_at
                    LIMIT queue.share
                      FOR UPDATE SKIP LOCKED) AS first
        ), dequeued AS (
            UPDATE deliveries d SET enqueued_at = {NOW}, due_at = {NOW} + $6::interval
              FROM due WHERE d.id = due.id RETURNING d.*
        )
        {pending_query("dequeued")}
        """,  # noqa: S608  constants
        now,
        channel.value,
        [queue.standard for queue in shares],
        [queue.project_id for queue in shares],
        list(shares.values()),
        requeue_after,
    )
    return [from_row(row) for row in rows]


async def make_due(
    db: Db,
    project_id: UUID,
    channel: Channel,
    suspensions: Collection[datetime],
    *,
    limit: int,
    now: datetime | None = None,
) -> int:
    """Make up to ``limit`` deliveries due that wait for the end of one of these suspensions; returns their number.

    They are known by their due time: it is the end of the suspension or, if that is sooner, their own end. A scheduled
    message or a retry round has that time by chance only.
    """
    status = await db.execute(
        f"""
        WITH waiting AS (
            SELECT found.id
              FROM unnest(ARRAY[true, false]) AS rank (standard)
             CROSS JOIN LATERAL (
                   SELECT id FROM deliveries
                    WHERE {_BACKLOGGED} AND channel = $2 AND project_id = $3
                      AND (delivery_class <> 'urgent') = rank.standard
                      AND due_at > {NOW} AND due_at <= $4 AND (due_at = ANY($5) OR due_at = expires_at)
                    LIMIT $6
                      FOR UPDATE SKIP LOCKED) AS found
        )
        UPDATE deliveries d SET due_at = {NOW} FROM waiting WHERE d.id = waiting.id
        """,  # noqa: S608  constants
        now,
        channel.value,
        project_id,
        max(suspensions),
        list(suspensions),
        limit,
    )
    return int(status.rpartition(" ")[2])


def fair_shares(queues: Sequence[ProjectQueue], capacity: int) -> dict[ProjectQueue, int]:
    """Divide ``capacity`` equally among the urgent queues, or among all if none is urgent.

    Each share is at least one, so that the sum may exceed ``capacity``.
    """
    served = [queue for queue in queues if not queue.standard] or queues
    return dict.fromkeys(served, max(1, capacity // len(served))) if served else {}
