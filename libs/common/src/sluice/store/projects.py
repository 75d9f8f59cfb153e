"""Projects: owners of keys, providers and messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sluice.model.ids import uuid7
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


async def create_project(db: Db, *, organization: str, slug: str, name: str, now: datetime) -> Project:
    """Create an organization with one project."""
    organization_id, project_id = uuid7(), uuid7()
    await db.execute("INSERT INTO organizations VALUES ($1, $2, $3)", organization_id, organization, now)
    await db.execute(
        "INSERT INTO projects (id, organization_id, slug, name, created_at) VALUES ($1, $2, $3, $4, $5)",
        project_id,
        organization_id,
        slug,
        name,
        now,
    )
    return Project(project_id, organization_id, slug, name, None)


async def find_project_by_slug(db: Db, slug: str) -> Project | None:
    """The project with this slug."""
    row = await db.fetchrow(
        "SELECT id, organization_id, slug, name, default_sender FROM projects WHERE slug = $1", slug
    )
    return None if row is None else Project(**row)


async def list_projects(db: Db, project_id: UUID | None = None) -> list[Project]:
    """All projects, or one."""
    rows = await db.fetch(
        "SELECT id, organization_id, slug, name, default_sender FROM projects WHERE $1::uuid IS NULL OR id = $1",
        project_id,
    )
    return [Project(**row) for row in rows]
