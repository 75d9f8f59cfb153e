"""Deliveries of a project that are not settled, by channel."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sluice.store.db import Db
from sluice.store.projects import ProjectScope

COUNTED = 10_000
"""So many of a project are counted at most."""


class Waiting(NamedTuple):
    """The deliveries of a channel that wait. ``due``: those that could be sent; ``oldest_due_at``: the first.

    ``scheduled``: those that are not due yet, because of their send time or a pause.
    """

    channel: str
    due: int
    scheduled: int
    in_flight: int
    oldest_due_at: datetime | None


async def count(db: Db, project: ProjectScope, *, now: datetime) -> list[Waiting]:
    """The oldest :data:`COUNTED` deliveries of the project that are not settled, by channel."""
    rows = await db.fetch(
        """
        SELECT channel, count(*) FILTER (WHERE due_at <= $3 AND NOT in_flight) AS due,
               count(*) FILTER (WHERE due_at > $3 AND NOT in_flight) AS scheduled,
               count(*) FILTER (WHERE in_flight) AS in_flight,
               min(due_at) FILTER (WHERE due_at <= $3 AND NOT in_flight) AS oldest_due_at
          FROM (SELECT channel, due_at, in_flight FROM deliveries
                 WHERE project_id = $1 AND sandbox = $2 AND state IN ('QUEUED', 'SENDING')
                   AND (state IN ('SENT', 'DELIVERED')) IS FALSE AND due_at IS NOT NULL
                 ORDER BY message_id LIMIT $4) AS d
         GROUP BY channel ORDER BY channel
        """,
        *project,
        now,
        COUNTED,
    )
    return [Waiting(*row) for row in rows]
