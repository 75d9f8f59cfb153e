"""Projects: owners of keys, providers and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.model.routing_policy import RoutingPolicy
from sluice.store.db import Db


class ProjectScope(NamedTuple):
    """The test or the live messages of one project: neither sees, repeats or changes the other's."""

    project_id: UUID
    sandbox: bool


@dataclass(frozen=True, slots=True)
class Project:
    """A project: the scope of isolation."""

    id: UUID
    organization_id: UUID
    slug: str
    name: str
    default_sender: str | None
    routing_policy: RoutingPolicy
    created_at: datetime
    has_suppressions: bool = False  # False: no address was ever suppressed
    verified_senders_only: bool = False  # True: e-mail from a domain that is not verified is refused


_COLUMNS = (
    "id, organization_id, slug, name, default_sender, routing_policy, created_at, has_suppressions,"
    " verified_senders_only"
)


def _project(row: Any) -> Project:
    return Project(**(dict(row) | {"routing_policy": RoutingPolicy(row["routing_policy"])}))


def live(ids: str, lock: str = "FOR SHARE") -> str:
    """The subquery with the ids of those of ``ids`` (SQL, an array) that are not deleted, locked for the transaction.

    For rows that would outlive the project: a deletion at the same time waits for them and deletes them, or is seen
    here. ``lock``: a statement that also changes the project needs ``FOR NO KEY UPDATE`` at once, because two of them
    with shared locks would wait for each other.
    """
    return f"SELECT id FROM projects WHERE id = ANY({ids}) AND deleted_at IS NULL ORDER BY id {lock}"  # noqa: S608


async def create_project(
    db: Db, *, organization: str, slug: str, name: str, now: datetime, project_id: UUID | None = None
) -> Project:
    """Create an organization with one project. ``project_id``: a new id, where the transaction has to know it."""
    organization_id, project_id = uuid7(), project_id or uuid7()
    await db.execute("INSERT INTO organizations VALUES ($1, $2, $3)", organization_id, organization, now)
    await db.execute(
        "INSERT INTO projects (id, organization_id, slug, name, created_at) VALUES ($1, $2, $3, $4, $5)",
        project_id,
        organization_id,
        slug,
        name,
        now,
    )
    return Project(project_id, organization_id, slug, name, None, RoutingPolicy.ADAPTIVE, now)


async def find_project_by_slug(db: Db, slug: str) -> Project | None:
    """The project with this slug."""
    row = await db.fetchrow(
        f"SELECT {_COLUMNS} FROM projects WHERE slug = $1 AND deleted_at IS NULL",  # noqa: S608  (a constant)
        slug,
    )
    return None if row is None else _project(row)


async def list_projects(db: Db, project_id: UUID | None = None) -> list[Project]:
    """All projects, oldest first, or one."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM projects WHERE ($1::uuid IS NULL OR id = $1) AND deleted_at IS NULL ORDER BY id",  # noqa: S608
        project_id,
    )
    return [_project(row) for row in rows]


async def list_projects_of(
    db: Db, project_ids: Sequence[UUID], *, limit: int, before: UUID | None = None, offset: int = 0
) -> list[Project]:
    """The newest of these projects, those older than the id ``before``, without the first ``offset`` of these."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM projects
         WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL AND ($2::uuid IS NULL OR id < $2)
         ORDER BY id DESC
         LIMIT $3 OFFSET $4
        """,  # noqa: S608
        list(project_ids),
        before,
        limit,
        offset,
    )
    return [_project(row) for row in rows]


async def update_project(
    db: Db,
    project_id: UUID,
    *,
    slug: str,
    name: str,
    default_sender: str | None,
    routing_policy: RoutingPolicy,
    verified_senders_only: bool,
) -> Project | None:
    """Replace the settings of a project; None if there is none."""
    row = await db.fetchrow(
        f"""
        UPDATE projects
           SET slug = $2, name = $3, default_sender = $4, routing_policy = $5, verified_senders_only = $6
         WHERE id = $1 AND deleted_at IS NULL
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        project_id,
        slug,
        name,
        default_sender,
        routing_policy,
        verified_senders_only,
    )
    return None if row is None else _project(row)


async def delete_project(db: Db, project_id: UUID, *, now: datetime) -> bool:
    """Delete a project with all that it is set up with; whether it existed.

    Its bulk jobs are cancelled, and an upload that is under way ends with it: see ``bulk_jobs.finish_upload``. Its
    messages stay until their retention ends, and its providers for the receipts of what was sent through them.
    """
    found = await db.fetchval(
        "UPDATE projects SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING id", project_id, now
    )
    await db.execute(
        "UPDATE api_keys SET is_active = false, deleted_at = $2 WHERE project_id = $1 AND deleted_at IS NULL",
        project_id,
        now,
    )
    await db.execute(
        "UPDATE providers SET enabled = false, deleted_at = $2, updated_at = $2, version = version + 1"
        " WHERE project_id = $1 AND deleted_at IS NULL",
        project_id,
        now,
    )
    await db.execute(
        "UPDATE bulk_jobs SET status = 'CANCELLING' WHERE project_id = $1 AND status = 'EXPANDING'", project_id
    )
    await db.execute("DELETE FROM channel_configs WHERE project_id = $1", project_id)
    await db.execute("DELETE FROM devices WHERE project_id = $1", project_id)
    await db.execute("DELETE FROM webhook_endpoints WHERE project_id = $1", project_id)
    await db.execute("DELETE FROM memberships WHERE project_id = $1", project_id)
    await db.execute("DELETE FROM invitations WHERE project_id = $1", project_id)
    await db.execute("DELETE FROM domains WHERE project_id = $1", project_id)
    await db.execute("DELETE FROM suppressions WHERE project_id = $1", project_id)
    await db.execute(
        "UPDATE templates SET deleted_at = $2 WHERE project_id = $1 AND deleted_at IS NULL", project_id, now
    )
    return found is not None
