"""Sending domains of projects, with what the newest check of their DNS records has found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.store.db import Db


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain in punycode. ``token`` proves its ownership; ``statuses``: by the purpose of a record."""

    id: UUID
    project_id: UUID
    domain: str
    token: str
    statuses: Mapping[str, str]
    checked_at: datetime | None
    created_at: datetime


_COLUMNS = "id, project_id, domain, token, statuses, checked_at, created_at"


def _domain(row: Any) -> Domain:
    return Domain(**dict(row) | {"statuses": json.loads(row["statuses"])})


async def create_domain(db: Db, project_id: UUID, *, domain: str, token: str, now: datetime) -> Domain:
    """Add a domain.

    Raises:
        asyncpg.UniqueViolationError: of ``domains_once``; the project has it already.
    """
    row = await db.fetchrow(
        f"""
        INSERT INTO domains (id, project_id, domain, token, created_at) VALUES ($1, $2, $3, $4, $5)
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        uuid7(),
        project_id,
        domain,
        token,
        now,
    )
    return _domain(row)


async def find_domain(db: Db, project_id: UUID, domain_id: UUID) -> Domain | None:
    """One domain of the project."""
    row = await db.fetchrow(
        f"SELECT {_COLUMNS} FROM domains WHERE project_id = $1 AND id = $2",  # noqa: S608  (a constant)
        project_id,
        domain_id,
    )
    return None if row is None else _domain(row)


async def list_domains(db: Db, project_id: UUID, *, limit: int, before: UUID | None = None) -> list[Domain]:
    """The newest domains of the project, those older than the id ``before``."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM domains
         WHERE project_id = $1 AND ($2::uuid IS NULL OR id < $2)
         ORDER BY id DESC
         LIMIT $3
        """,  # noqa: S608
        project_id,
        before,
        limit,
    )
    return [_domain(row) for row in rows]


async def count_domains(db: Db, project_id: UUID) -> int:
    """How many domains the project has."""
    return int(await db.fetchval("SELECT count(*) FROM domains WHERE project_id = $1", project_id))


async def list_statuses(db: Db, project_id: UUID | None = None) -> dict[tuple[UUID, str], Mapping[str, str]]:
    """The statuses of each project's domains, in the projects that refuse other senders: all of these, or one."""
    rows = await db.fetch(
        """
        SELECT d.project_id, d.domain, d.statuses FROM domains d JOIN projects p ON p.id = d.project_id
         WHERE p.verified_senders_only AND ($1::uuid IS NULL OR p.id = $1)
        """,
        project_id,
    )
    return {(row["project_id"], row["domain"]): json.loads(row["statuses"]) for row in rows}


async def record_check(
    db: Db, project_id: UUID, domain_id: UUID, *, statuses: Mapping[str, str], now: datetime
) -> Domain | None:
    """Write what a check has found; purposes that are not named keep their status. None if there is no such domain."""
    row = await db.fetchrow(
        f"""
        UPDATE domains SET statuses = statuses || $3::jsonb, checked_at = $4
         WHERE project_id = $1 AND id = $2
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        project_id,
        domain_id,
        json.dumps(dict(statuses)),
        now,
    )
    return None if row is None else _domain(row)


async def has_active_messages(db: Db, project_id: UUID, domain: str) -> bool:
    """Whether e-mail of the project from this domain is not settled, subdomains apart."""
    found: bool = await db.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM deliveries d JOIN messages m ON m.id = d.message_id
             WHERE (d.due_at IS NOT NULL AND d.enqueued_at IS NULL  -- the two indexes of those that are not settled
                    OR d.due_at IS NOT NULL AND d.enqueued_at IS NOT NULL)
               AND d.project_id = $1 AND d.channel = 'email'
               AND rtrim(lower(m.sender), '> ') LIKE '%@' || $2)
        """,
        project_id,
        domain,
    )
    return found


async def delete_domain(db: Db, project_id: UUID, domain_id: UUID) -> bool:
    """Remove a domain; whether it existed."""
    deleted = await db.fetchval(
        "DELETE FROM domains WHERE project_id = $1 AND id = $2 RETURNING true", project_id, domain_id
    )
    return deleted is not None
