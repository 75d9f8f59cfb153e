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
from sluice.store.deliveries import Standing, select_standing, standing

# As the index deliveries_waiting has it.
_WAITS = "due_at IS NOT NULL AND published_at IS NULL AND NOT in_flight"
_MOST_COUNTED = 50_000  # rows of the conveyor; a fuller one has no room whatever its exact length


@dataclass(frozen=True, slots=True)
class Queue:
    """Deliveries of one project that wait together; its urgent ones have a queue of their own."""

    calm: bool  # not urgent
    project_id: UUID


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the conveyor."""

    project_id: UUID
    channel: Channel
    urgent: bool


async def on_conveyor(db: Db) -> dict[Part, int]:
    """How many deliveries are on the conveyor, and whose."""
    rows = await db.fetch(
        """
        SELECT project_id, channel, class = 'urgent' AS urgent, count(*) AS held
          FROM (SELECT project_id, channel, class FROM deliveries
                 WHERE due_at IS NOT NULL AND published_at IS NOT NULL LIMIT $1) AS conveyor
         GROUP BY 1, 2, 3
        """,
        _MOST_COUNTED,
    )
    return {Part(row["project_id"], Channel(row["channel"]), row["urgent"]): row["held"] for row in rows}


async def queues(db: Db, channel: Channel, *, now: datetime, after: Queue | None, limit: int) -> list[Queue]:
    """Up to ``limit`` queues in which somebody is due, in a fixed order from ``after`` on (None: from the first).

    Costs one look at an index for each queue, however long it is.
    """
    start = (False, UUID(int=0)) if after is None else (after.calm, after.project_id)
    rows = await db.fetch(
        f"""
        WITH RECURSIVE head AS (
            ({_FIRST.format(calm="$2::boolean", project="$3::uuid")})
            UNION ALL
            SELECT following.*
              FROM head CROSS JOIN LATERAL ({_FIRST.format(calm="head.calm", project="head.project_id")}) AS following
        )
        SELECT calm, project_id FROM head WHERE due_at <= $4 LIMIT $5
        """,  # noqa: S608  constants of this file
        channel.value,
        *start,
        now,
        limit,
    )
    return [Queue(row["calm"], row["project_id"]) for row in rows]


_FIRST = f"""
    SELECT class <> 'urgent' AS calm, project_id, due_at FROM deliveries
     WHERE {_WAITS} AND channel = $1 AND (class <> 'urgent', project_id) > ({{calm}}, {{project}})
     ORDER BY class <> 'urgent', project_id, due_at
     LIMIT 1
"""  # noqa: S608  constants of this file


async def take(
    db: Db, channel: Channel, shares: Mapping[Queue, int], *, now: datetime, redrive: timedelta
) -> list[Standing]:
    """Put up to so many of each queue on the conveyor, the longest due first; expired ones are among them.

    Each delivery is taken by one caller.
    """
    rows = await db.fetch(
        f"""
        WITH due AS (
            SELECT first.id
              FROM unnest($2::boolean[], $3::uuid[], $4::int[]) AS queue (calm, project_id, share)
             CROSS JOIN LATERAL (
                   SELECT id FROM deliveries
                    WHERE {_WAITS} AND due_at <= $5 AND channel = $1
                      AND (class <> 'urgent') = queue.calm AND project_id = queue.project_id
                    ORDER BY due_at
                    LIMIT queue.share
                      FOR UPDATE SKIP LOCKED) AS first
        ), taken AS (
            UPDATE deliveries d SET published_at = $5, due_at = $6 FROM due WHERE d.id = due.id RETURNING d.*
        )
        {select_standing("taken")}
        """,  # noqa: S608  constants
        channel.value,
        [queue.calm for queue in shares],
        [queue.project_id for queue in shares],
        list(shares.values()),
        now,
        now + redrive,
    )
    return [standing(row) for row in rows]


def share_out(waiting: Sequence[Queue], free: int) -> dict[Queue, int]:
    """How many of each queue may go: the urgent ones first, equal shares within a rank.

    Nobody gets less than one, so that all together may exceed ``free`` by their number.
    """
    served = [queue for queue in waiting if not queue.calm] or waiting
    return dict.fromkeys(served, max(1, free // len(served))) if served else {}
