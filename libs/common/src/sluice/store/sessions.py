"""Sessions of users, found by the hash of their token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.model.roles import Role
from sluice.store.db import Db
from sluice.store.secret_tokens import SESSION, new_token

LIFETIME = timedelta(days=7)
IDLE_LIFETIME = timedelta(hours=12)  # without a request
_USE_PRECISION = timedelta(minutes=1)


SessionKey = bytes | UUID
"""How a session is found: by the hash of its token, or by its id, where the caller has proved to own it."""


class ProjectRole(NamedTuple):
    """A user's role in one project."""

    project_id: UUID
    slug: str
    role: Role


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is valid, with its user and the user's roles."""

    id: UUID
    user_id: UUID
    email: str
    name: str
    expires_at: datetime
    roles: tuple[ProjectRole, ...]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as its user sees it in a list."""

    id: UUID
    address: str | None
    user_agent: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


async def create_session(
    db: Db, user_id: UUID, *, address: str | None, user_agent: str | None, now: datetime
) -> tuple[str, UUID, datetime]:
    """Create a session: its token, which is not stored, its id, and when it ends. Expired ones of the user go."""
    await db.execute(
        "DELETE FROM sessions WHERE user_id = $1 AND (expires_at <= $2 OR last_used_at <= $3)",
        user_id,
        now,
        now - IDLE_LIFETIME,
    )
    token, token_hash = new_token(SESSION)
    session_id, expires_at = uuid7(), now + LIFETIME
    await db.execute(
        """
        INSERT INTO sessions (id, user_id, token_hash, address, user_agent, created_at, last_used_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $6, $7)
        """,
        session_id,
        user_id,
        token_hash,
        address,
        user_agent,
        now,
        expires_at,
    )
    return token, session_id, expires_at


async def find_sessions(db: Db, keys: Sequence[SessionKey], *, now: datetime) -> dict[SessionKey, Session]:
    """The valid sessions with these hashes or ids, by both; marks them as used, to a minute.

    A row that another gateway marks at the same moment is left to it: no statement waits for another.
    """
    rows = await db.fetch(
        """
        WITH found AS MATERIALIZED (
            SELECT id, token_hash, user_id, expires_at, last_used_at FROM sessions
             WHERE token_hash = ANY($1::bytea[]) AND expires_at > $3 AND last_used_at > $4
             UNION
            SELECT id, token_hash, user_id, expires_at, last_used_at FROM sessions
             WHERE id = ANY($2::uuid[]) AND expires_at > $3 AND last_used_at > $4
        ), marked AS (
            UPDATE sessions SET last_used_at = $3
             WHERE id IN (SELECT id FROM sessions
                           WHERE id IN (SELECT id FROM found WHERE last_used_at < $5)
                             FOR UPDATE SKIP LOCKED))
        SELECT s.token_hash, s.id, s.user_id, u.email, u.name, s.expires_at, m.project_ids, m.slugs, m.roles
          FROM found s
          JOIN users u ON u.id = s.user_id
         CROSS JOIN LATERAL roles_of_user(s.user_id) m
        """,
        list({key for key in keys if isinstance(key, bytes)}),
        list({key for key in keys if isinstance(key, UUID)}),
        now,
        now - IDLE_LIFETIME,
        now - _USE_PRECISION,
    )
    return {key: session for row in rows for session in [_session(row)] for key in (row["token_hash"], row["id"])}


def _session(row: dict[str, object]) -> Session:
    columns = [row["project_ids"] or [], row["slugs"] or [], row["roles"] or []]
    roles = tuple(ProjectRole(one, slug, Role(role)) for one, slug, role in zip(*columns, strict=True))
    named = {name: row[name] for name in ("id", "user_id", "email", "name", "expires_at")}
    return Session(**named, roles=roles)  # type: ignore[arg-type]


async def list_sessions(
    db: Db, user_id: UUID, *, now: datetime, limit: int, before: UUID | None = None
) -> list[SessionRow]:
    """The newest valid sessions of a user, those older than the id ``before``."""
    rows = await db.fetch(
        """
        SELECT id, address, user_agent, created_at, last_used_at, expires_at
          FROM sessions
         WHERE user_id = $1 AND expires_at > $2 AND last_used_at > $3 AND ($4::uuid IS NULL OR id < $4)
         ORDER BY id DESC
         LIMIT $5
        """,
        user_id,
        now,
        now - IDLE_LIFETIME,
        before,
        limit,
    )
    return [SessionRow(**row) for row in rows]


async def end_session(db: Db, user_id: UUID, session_id: UUID) -> bool:
    """End one session of a user; whether it existed."""
    found = await db.fetchval("DELETE FROM sessions WHERE user_id = $1 AND id = $2 RETURNING id", user_id, session_id)
    return found is not None


async def end_sessions(db: Db, user_id: UUID, *, keep: UUID | None = None) -> None:
    """End all sessions of a user, except the one to ``keep``."""
    await db.execute("DELETE FROM sessions WHERE user_id = $1 AND ($2::uuid IS NULL OR id <> $2)", user_id, keep)
