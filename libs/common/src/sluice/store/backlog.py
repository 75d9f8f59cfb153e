"""What waits in the record: for its time, and then for room on the conveyor.

The conveyor is kept short, and the record is the queue: whoever brings more than his share of the conveyor waits here,
and is taken from here in turns, so that he waits behind himself and not before others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sluice.model.message import Channel
from sluice.store.db import Db
from sluice.store.recovery import PendingDelivery, from_row, pending_query

# As the index deliveries_waiting has it.
_BACKLOGGED = "due_at IS NOT NULL AND enqueued_at IS NULL AND NOT in_flight"
_MAX_COUNTED = 50_000  # rows of the conveyor; a fuller one has no room whatever its exact length


@dataclass(frozen=True, slots=True)
class ProjectQueue:
    """Deliveries of one project that wait together; its urgent ones have a queue of their own."""

    standard: bool  # not urgent
    project_id: UUID


@dataclass(frozen=True, slots=True)
class QueueSlice:
    """A part of the conveyor."""

    project_id: UUID
    channel: Channel
    urgent: bool


async def count_enqueued(db: Db) -> dict[QueueSlice, int]:
    """How many deliveries are on the conveyor, and whose."""
    rows = await db.fetch(
        """
        SELECT project_id, channel, delivery_class = 'urgent' AS urgent, count(*) AS held
          FROM (SELECT project_id, channel, delivery_class FROM deliveries
                 WHERE due_at IS NOT NULL AND enqueued_at IS NOT NULL LIMIT $1) AS dispatch_queue
         GROUP BY 1, 2, 3
        """,
        _MAX_COUNTED,
    )
    return {QueueSlice(row["project_id"], Channel(row["channel"]), row["urgent"]): row["held"] for row in rows}


async def project_queues(
    db: Db, channel: Channel, *, now: datetime, after: ProjectQueue | None, limit: int
) -> list[ProjectQueue]:
    """Up to ``limit`` queues in which somebody is due, in a fixed order from ``after`` on (None: from the first).

    Costs one look at an index for each queue, however long it is.
    """
    start = (False, UUID(int=0)) if after is None else (after.standard, after.project_id)
    rows = await db.fetch(
        f"""
        WITH RECURSIVE head AS (
            ({_NEXT_QUEUE.format(standard="$2::boolean", project="$3::uuid")})
            UNION ALL
            SELECT next_queue.*
              FROM head CROSS JOIN LATERAL (
                   {_NEXT_QUEUE.format(standard="head.standard", project="head.project_id")}) AS next_queue
        )
        SELECT standard, project_id FROM head WHERE due_at <= $4 LIMIT $5
        """,  # noqa: S608  constants of this file
        channel.value,
        *start,
        now,
        limit,
    )
    return [ProjectQueue(row["standard"], row["project_id"]) for row in rows]


_NEXT_QUEUE = f"""
    SELECT delivery_class <> 'urgent' AS standard, project_id, due_at FROM deliveries
     WHERE {_BACKLOGGED} AND channel = $1 AND (delivery_class <> 'urgent', project_id) > ({{standard}}, {{project}})
     ORDER BY delivery_class <> 'urgent', project_id, due_at
     LIMIT 1
"""  # noqa: S608  constants of this file


async def dequeue(
    db: Db, channel: Channel, shares: Mapping[ProjectQueue, int], *, now: datetime, requeue_after: timedelta
) -> list[PendingDelivery]:
    """Put up to so many of each queue on the conveyor, the longest due first; expired ones are among them.

    Each delivery is taken by one caller.
    """
    rows = await db.fetch(
        f"""
        WITH due AS (
            SELECT first.id
              FROM unnest($2::boolean[], $3::uuid[], $4::int[]) AS queue (standard, project_id, share)
             CROSS JOIN LATERAL (
                   SELECT id FROM deliveries
                    WHERE {_BACKLOGGED} AND due_at <= $5 AND channel = $1
                      AND (delivery_class <> 'urgent') = queue.standard AND project_id = queue.project_id
                    ORDER BY due_at
                    LIMIT queue.share
                      FOR UPDATE SKIP LOCKED) AS first
        ), dequeued AS (
            UPDATE deliveries d SET enqueued_at = $5, due_at = $6 FROM due WHERE d.id = due.id RETURNING d.*
        )
        {pending_query("dequeued")}
        """,  # noqa: S608  constants
        channel.value,
        [queue.standard for queue in shares],
        [queue.project_id for queue in shares],
        list(shares.values()),
        now,
        now + requeue_after,
    )
    return [from_row(row) for row in rows]


def fair_shares(waiting: Sequence[ProjectQueue], capacity: int) -> dict[ProjectQueue, int]:
    """How many of each queue may go: the urgent ones first, equal shares within a rank.

    Nobody gets less than one, so that all together may exceed ``free`` by their number.
    """
    served = [queue for queue in waiting if not queue.standard] or waiting
    return dict.fromkeys(served, max(1, capacity // len(served))) if served else {}
