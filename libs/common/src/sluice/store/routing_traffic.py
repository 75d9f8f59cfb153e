"""What was sent recently, as far as routing decides by it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sluice.model.ids import min_id_at
from sluice.store.db import Db
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
        """
        SELECT d.recipient, d.delivery_class, d.preferred_provider_id
          FROM (SELECT id FROM messages
                 WHERE project_id = $1 AND sandbox = $2 AND channel = $3 AND id >= $4
                 ORDER BY id DESC LIMIT $5) AS m
         CROSS JOIN LATERAL (
               SELECT recipient, delivery_class, preferred_provider_id FROM deliveries
                -- A delivery's id is of the millisecond of its message's.
                WHERE id BETWEEN (substr(m.id::text, 1, 13) || '-0000-0000-000000000000')::uuid
                          AND (substr(m.id::text, 1, 13) || '-ffff-ffff-ffffffffffff')::uuid
                  AND message_id = m.id) AS d
         LIMIT $5
        """,
        *project,
        channel,
        min_id_at(since),
        limit,
    )
    return [RecentDelivery(*row) for row in rows]
