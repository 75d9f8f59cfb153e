"""The audit log: who changed what. A row is written in the transaction of its change and never updated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.store.db import Db


class ActorKind(StrEnum):
    """Who acts: a person, a program with an API key, the operator at the command line, or Sluice itself."""

    USER = "user"
    KEY = "key"
    OPERATOR = "operator"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change. ``address``: the client's, as text."""

    kind: ActorKind
    id: UUID | None = None
    address: str | None = None


OPERATOR = Actor(ActorKind.OPERATOR)
SYSTEM = Actor(ActorKind.SYSTEM)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of the audit log. ``actor_name``: the user's e-mail address or the key's name, if it still exists."""

    id: UUID
    actor_kind: ActorKind
    actor_id: UUID | None
    actor_name: str | None
    action: str
    noun: str
    object_id: str
    changes: Mapping[str, Any]
    address: str | None
    occurred_at: datetime


async def append(
    db: Db,
    actor: Actor,
    *,
    project_id: UUID | None,
    action: str,
    noun: str,
    object_id: str,
    now: datetime,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Add a row. ``db`` is the transaction of the change; ``changes`` contain no secret, ``object_id`` is public.

    ``project_id``: None for a change of a user's own account.
    """
    await db.execute(
        """
        INSERT INTO audit_log (id, project_id, actor_kind, actor_id, action, noun, object_id, changes, address,
                               occurred_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        """,
        uuid7(),
        project_id,
        actor.kind.value,
        actor.id,
        action,
        noun,
        object_id,
        json.dumps(dict(changes or {})),
        actor.address,
        now,
    )


async def list_entries(
    db: Db,
    project_id: UUID,
    *,
    limit: int,
    before: UUID | None = None,
    noun: str | None = None,
    object_id: str | None = None,
) -> list[AuditEntry]:
    """The newest entries of a project, those older than the id ``before``; of one noun and object if named."""
    rows = await db.fetch(
        """
        SELECT a.id, a.actor_kind, a.actor_id, coalesce(u.email, k.name) AS actor_name, a.action, a.noun, a.object_id,
               a.changes, a.address, a.occurred_at
          FROM audit_log a
          LEFT JOIN users u ON a.actor_kind = 'user' AND u.id = a.actor_id
          LEFT JOIN api_keys k ON a.actor_kind = 'key' AND k.id = a.actor_id AND k.project_id = a.project_id
         WHERE a.project_id = $1 AND ($2::uuid IS NULL OR a.id < $2) AND ($3::text IS NULL OR a.noun = $3)
           AND ($4::text IS NULL OR a.object_id = $4)
         ORDER BY a.id DESC
         LIMIT $5
        """,
        project_id,
        before,
        noun,
        object_id,
        limit,
    )
    return [
        AuditEntry(**dict(row) | {"actor_kind": ActorKind(row["actor_kind"]), "changes": json.loads(row["changes"])})
        for row in rows
    ]
