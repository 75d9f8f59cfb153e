"""What projects have used of their quotas: deliveries of a day, and stored attachments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.store.db import Db
from sluice.store.projects import ProjectScope

_KEPT_DAYS = timedelta(days=35)


class Usage(NamedTuple):
    """Deliveries of accepted messages, and how many of them were urgent."""

    messages: int = 0
    urgent: int = 0


async def add(db: Db, day: date, used: Mapping[ProjectScope, Usage]) -> None:
    """Add to the usage of a day. Several processes may add at once."""
    scopes = sorted(used)  # concurrent statements lock rows in the same order
    await db.execute(
        """
        INSERT INTO project_usage AS held (project_id, sandbox, day, messages, urgent)
        SELECT n.project_id, n.sandbox, $1, n.messages, n.urgent
          FROM unnest($2::uuid[], $3::boolean[], $4::bigint[], $5::bigint[])
               AS n (project_id, sandbox, messages, urgent)
        ON CONFLICT (day, project_id, sandbox) DO UPDATE
           SET messages = held.messages + excluded.messages, urgent = held.urgent + excluded.urgent
        """,
        day,
        [scope.project_id for scope in scopes],
        [scope.sandbox for scope in scopes],
        [used[scope].messages for scope in scopes],
        [used[scope].urgent for scope in scopes],
    )


async def of_day(db: Db, day: date) -> dict[ProjectScope, Usage]:
    """The usage of a day by every project that has one."""
    rows = await db.fetch("SELECT project_id, sandbox, messages, urgent FROM project_usage WHERE day = $1", day)
    return {ProjectScope(row["project_id"], row["sandbox"]): Usage(row["messages"], row["urgent"]) for row in rows}


async def delete_old(db: Db, today: date) -> None:
    """Delete the usage of days that no quota asks for any more."""
    await db.execute("DELETE FROM project_usage WHERE day < $1", today - _KEPT_DAYS)


async def attachment_bytes(db: Db) -> dict[UUID, int]:
    """The bytes of the stored attachments of each project that has any; reads no content."""
    rows = await db.fetch("SELECT project_id, bytes FROM attachment_bytes")
    return {row["project_id"]: row["bytes"] for row in rows}
