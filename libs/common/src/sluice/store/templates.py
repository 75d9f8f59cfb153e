"""Templates and their versions. A version is never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.model.template import TemplateKind
from sluice.store.db import Db


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """One version of a template. ``sources``: by part; ``created_at`` and ``updated_at`` are the template's."""

    id: UUID
    project_id: UUID
    kind: TemplateKind
    name: str
    version: int
    sources: Mapping[str, str]
    variables: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TemplateSummary:
    """A template as a list shows it: its current version without the sources."""

    id: UUID
    project_id: UUID
    kind: TemplateKind
    name: str
    version: int
    variables: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """One entry in a template's history."""

    version: int
    variables: tuple[str, ...]
    created_at: datetime


async def create_template(
    db: Db,
    project_id: UUID,
    *,
    kind: TemplateKind,
    name: str,
    sources: Mapping[str, str],
    variables: Sequence[str],
    now: datetime,
) -> StoredTemplate:
    """Create a template with its version 1."""
    template = StoredTemplate(uuid7(), project_id, kind, name, 1, dict(sources), tuple(variables), now, now)
    await db.execute(
        """
        WITH created AS (
            INSERT INTO templates (id, project_id, kind, name, version, created_at, updated_at)
            VALUES ($1, $2, $3, $4, 1, $7, $7) RETURNING id, project_id, version
        )
        INSERT INTO template_versions (template_id, version, project_id, sources, variables, created_at)
        SELECT id, version, project_id, $5::json, $6::text[], $7 FROM created
        """,
        template.id,
        project_id,
        kind.value,
        name,
        json.dumps(template.sources),
        list(variables),
        now,
    )
    return template


_VERSION = """
    SELECT t.id, t.project_id, t.kind, t.name, v.version, v.sources, v.variables, t.created_at, t.updated_at
      FROM templates t JOIN template_versions v ON v.template_id = t.id
"""


async def find_template(
    db: Db, project_id: UUID, template_id: UUID, version: int | None = None
) -> StoredTemplate | None:
    """A template that is not deleted, in its current version or another one; None if the project has none."""
    row = await db.fetchrow(
        f"{_VERSION} WHERE t.project_id = $1 AND t.id = $2 AND t.deleted_at IS NULL"
        " AND v.version = coalesce($3, t.version)",
        project_id,
        template_id,
        version,
    )
    return None if row is None else _stored(row)


async def lock_template(db: Db, project_id: UUID, template_id: UUID) -> StoredTemplate | None:
    """As :func:`find_template`, and until the end of the transaction no other statement changes the template."""
    # A statement of its own: a joined row would be that of the version before the wait for the lock.
    await db.execute("SELECT FROM templates WHERE project_id = $1 AND id = $2 FOR UPDATE", project_id, template_id)
    return await find_template(db, project_id, template_id)


async def find_current(db: Db, wanted: Sequence[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], StoredTemplate]:
    """The current versions of templates, by (project id, template id); absent: the project has none."""
    rows = await db.fetch(
        f"""
        {_VERSION}
          JOIN (SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS w (project_id, id) LIMIT cardinality($1)) AS wanted
            ON wanted.project_id = t.project_id AND wanted.id = t.id
         WHERE t.deleted_at IS NULL AND v.version = t.version
        """,  # noqa: S608  a constant
        [project_id for project_id, _ in wanted],
        [template_id for _, template_id in wanted],
    )
    return {(row["project_id"], row["id"]): _stored(row) for row in rows}


_SUMMARY = """
    SELECT t.id, t.project_id, t.kind, t.name, t.version, v.variables, t.created_at, t.updated_at
      FROM templates t JOIN template_versions v ON v.template_id = t.id AND v.version = t.version
"""


async def list_templates(
    db: Db, project_id: UUID, *, kind: TemplateKind | None, limit: int, before: UUID | None
) -> list[TemplateSummary]:
    """The newest templates of a project, those older than the id ``before``; of one kind if named."""
    rows = await db.fetch(
        f"""
        {_SUMMARY}
         WHERE t.project_id = $1 AND t.deleted_at IS NULL AND ($2::uuid IS NULL OR t.id < $2)
           AND ($3::text IS NULL OR t.kind = $3)
         ORDER BY t.id DESC
         LIMIT $4
        """,
        project_id,
        before,
        kind,
        limit,
    )
    return [_summary(row) for row in rows]


async def page_of_templates(
    db: Db, project_ids: Sequence[UUID], *, kind: TemplateKind, limit: int, offset: int
) -> tuple[list[TemplateSummary], int]:
    """The templates of one kind in several projects, newest first, after ``offset`` others; and how many there are."""
    rows = await db.fetch(
        f"""
        {_SUMMARY}
         WHERE t.project_id = ANY($1::uuid[]) AND t.deleted_at IS NULL AND t.kind = $2
         ORDER BY t.id DESC
         LIMIT $3 OFFSET $4
        """,
        list(project_ids),
        kind,
        limit,
        offset,
    )
    total: int = await db.fetchval(
        "SELECT count(*) FROM templates WHERE project_id = ANY($1::uuid[]) AND deleted_at IS NULL AND kind = $2",
        list(project_ids),
        kind,
    )
    return [_summary(row) for row in rows], total


async def list_versions(
    db: Db, project_id: UUID, template_id: UUID, *, limit: int, before: int | None
) -> list[TemplateVersion]:
    """The newest versions of a template, those below ``before``."""
    rows = await db.fetch(
        """
        SELECT version, variables, created_at FROM template_versions
         WHERE project_id = $1 AND template_id = $2 AND ($3::int IS NULL OR version < $3)
         ORDER BY version DESC
         LIMIT $4
        """,
        project_id,
        template_id,
        before,
        limit,
    )
    return [TemplateVersion(row["version"], tuple(row["variables"]), row["created_at"]) for row in rows]


async def update_template(
    db: Db,
    template: StoredTemplate,
    *,
    name: str,
    sources: Mapping[str, str],
    variables: Sequence[str],
    now: datetime,
) -> StoredTemplate:
    """Change a template that :func:`lock_template` returned; other sources make a new version."""
    version = template.version + (dict(sources) != dict(template.sources))
    await db.execute(
        """
        WITH changed AS (
            UPDATE templates SET name = $3, version = $4, updated_at = $7 WHERE project_id = $1 AND id = $2
            RETURNING id, project_id, version
        )
        INSERT INTO template_versions (template_id, version, project_id, sources, variables, created_at)
        SELECT id, version, project_id, $5::json, $6::text[], $7 FROM changed
        ON CONFLICT (template_id, version) DO NOTHING
        """,
        template.project_id,
        template.id,
        name,
        version,
        json.dumps(dict(sources)),
        list(variables),
        now,
    )
    return StoredTemplate(
        template.id,
        template.project_id,
        template.kind,
        name,
        version,
        dict(sources),
        tuple(variables),
        template.created_at,
        now,
    )


async def delete_template(
    db: Db, project_id: UUID, template_id: UUID, *, kind: TemplateKind | None = None, now: datetime
) -> str | None:
    """Delete a template; its versions stay for the messages made from them.

    ``kind``: that of the template; None: any. Returns its name, or None if there is none.
    """
    name: str | None = await db.fetchval(
        """
        UPDATE templates SET deleted_at = $4
         WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL AND ($3::text IS NULL OR kind = $3)
        RETURNING name
        """,
        project_id,
        template_id,
        kind,
        now,
    )
    return name


def _summary(row: Mapping[str, Any]) -> TemplateSummary:
    fields = dict(row)
    return TemplateSummary(**fields | {"kind": TemplateKind(fields["kind"]), "variables": tuple(fields["variables"])})


def _stored(row: Mapping[str, Any]) -> StoredTemplate:
    fields = dict(row)
    return StoredTemplate(
        **fields
        | {
            "kind": TemplateKind(fields["kind"]),
            "sources": json.loads(fields["sources"]),
            "variables": tuple(fields["variables"]),
        }
    )
