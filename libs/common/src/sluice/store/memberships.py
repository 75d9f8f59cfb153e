"""Memberships: the roles of users in projects, and invitations to become a member."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.model.roles import Role
from sluice.store.db import Db
from sluice.store.secret_tokens import INVITATION, hash_token, new_token
from sluice.store.users import email_key

INVITATION_LIFETIME = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Member:
    """A user's membership in a project."""

    user_id: UUID
    email: str
    name: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation that is not accepted yet."""

    id: UUID
    project_id: UUID
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime


async def lock_members(db: Db, project_id: UUID) -> None:
    """Let one transaction at a time change the members of a project: it keeps an owner whatever runs concurrently."""
    await db.execute("SELECT FROM projects WHERE id = $1 FOR UPDATE", project_id)


async def add_member(db: Db, project_id: UUID, user_id: UUID, role: Role, *, now: datetime) -> bool:
    """Add a member; False if the user is one already."""
    added = await db.fetchval(
        "INSERT INTO memberships (project_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING RETURNING user_id",
        project_id,
        user_id,
        role.value,
        now,
    )
    return added is not None


async def adopt_projects(db: Db, user_id: UUID, *, now: datetime) -> list[UUID]:
    """Make the user the owner of every project without members, such as those of the command line."""
    rows = await db.fetch(
        """
        INSERT INTO memberships (project_id, user_id, role, created_at)
        SELECT p.id, $1, $2, $3
          FROM projects p
         WHERE p.deleted_at IS NULL AND NOT EXISTS (SELECT FROM memberships m WHERE m.project_id = p.id)
        RETURNING project_id
        """,
        user_id,
        Role.OWNER.value,
        now,
    )
    return [row["project_id"] for row in rows]


async def find_member(db: Db, project_id: UUID, user_id: UUID) -> Member | None:
    """The member with this user id."""
    row = await db.fetchrow(
        """
        SELECT m.user_id, u.email, u.name, m.role, m.created_at
          FROM memberships m JOIN users u ON u.id = m.user_id
         WHERE m.project_id = $1 AND m.user_id = $2
        """,
        project_id,
        user_id,
    )
    return None if row is None else _member(row)


async def list_members(
    db: Db, project_id: UUID, *, limit: int, before: UUID | None = None, offset: int = 0
) -> list[Member]:
    """Members by the age of their user, newest first, those older than the user id ``before``, without the first
    ``offset`` of these.
    """
    rows = await db.fetch(
        """
        SELECT m.user_id, u.email, u.name, m.role, m.created_at
          FROM memberships m JOIN users u ON u.id = m.user_id
         WHERE m.project_id = $1 AND ($2::uuid IS NULL OR m.user_id < $2)
         ORDER BY m.user_id DESC
         LIMIT $3 OFFSET $4
        """,
        project_id,
        before,
        limit,
        offset,
    )
    return [_member(row) for row in rows]


def _member(row: dict[str, object]) -> Member:
    return Member(**dict(row) | {"role": Role(str(row["role"]))})  # type: ignore[arg-type]


async def set_role(db: Db, project_id: UUID, user_id: UUID, role: Role) -> None:
    """Replace a member's role."""
    await db.execute(
        "UPDATE memberships SET role = $3 WHERE project_id = $1 AND user_id = $2", project_id, user_id, role.value
    )


async def remove_member(db: Db, project_id: UUID, user_id: UUID) -> None:
    """Remove a member."""
    await db.execute("DELETE FROM memberships WHERE project_id = $1 AND user_id = $2", project_id, user_id)


async def count_members(db: Db, project_id: UUID) -> int:
    """How many members the project has."""
    return int(await db.fetchval("SELECT count(*) FROM memberships WHERE project_id = $1", project_id))


async def count_owners(db: Db, project_id: UUID) -> int:
    """How many owners the project has."""
    return int(
        await db.fetchval(
            "SELECT count(*) FROM memberships WHERE project_id = $1 AND role = $2", project_id, Role.OWNER.value
        )
    )


async def invite(
    db: Db,
    project_id: UUID,
    email: str,
    role: Role,
    *,
    invited_by: UUID | None,
    now: datetime,
    replaces: Collection[Role],
) -> tuple[Invitation, str] | None:
    """Create an invitation and its token; an earlier one for the same address ends.

    None, and nothing changes, where one waits for an answer whose role is not among ``replaces``.
    """
    token, token_hash = new_token(INVITATION)
    row = await db.fetchrow(
        """
        INSERT INTO invitations (id, project_id, email, email_key, role, token_hash, invited_by, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT ON CONSTRAINT invitations_once DO UPDATE
           SET id = excluded.id, email = excluded.email, role = excluded.role, token_hash = excluded.token_hash,
               invited_by = excluded.invited_by, created_at = excluded.created_at, expires_at = excluded.expires_at
         WHERE invitations.expires_at <= excluded.created_at OR invitations.role = ANY($10::text[])
        RETURNING id, project_id, email, role, created_at, expires_at
        """,
        uuid7(),
        project_id,
        email,
        email_key(email),
        role.value,
        token_hash,
        invited_by,
        now,
        now + INVITATION_LIFETIME,
        sorted(replaces),
    )
    return None if row is None else (_invitation(row), token)


async def project_of_invitation(db: Db, token: str) -> UUID | None:
    """The project of the invitation with this token, whether or not it is still valid."""
    found: UUID | None = await db.fetchval("SELECT project_of_invitation($1)", hash_token(token))
    return found


async def take_invitation(db: Db, token: str, *, now: datetime) -> Invitation | None:
    """The invitation of a token, which serves once: it is deleted. ``db`` sees its project."""
    row = await db.fetchrow(
        """
        DELETE FROM invitations i USING projects p
         WHERE i.token_hash = $1 AND i.expires_at > $2 AND p.id = i.project_id AND p.deleted_at IS NULL
        RETURNING i.id, i.project_id, i.email, i.role, i.created_at, i.expires_at
        """,
        hash_token(token),
        now,
    )
    return None if row is None else _invitation(row)


async def list_invitations(
    db: Db, project_id: UUID, *, now: datetime, limit: int, before: UUID | None = None, offset: int = 0
) -> list[Invitation]:
    """The newest invitations of a project that have not expired, those older than the id ``before``, without the
    first ``offset`` of these.
    """
    rows = await db.fetch(
        """
        SELECT id, project_id, email, role, created_at, expires_at
          FROM invitations
         WHERE project_id = $1 AND expires_at > $2 AND ($3::uuid IS NULL OR id < $3)
         ORDER BY id DESC
         LIMIT $4 OFFSET $5
        """,
        project_id,
        now,
        before,
        limit,
        offset,
    )
    return [_invitation(row) for row in rows]


def _invitation(row: dict[str, object]) -> Invitation:
    return Invitation(**dict(row) | {"role": Role(str(row["role"]))})  # type: ignore[arg-type]


async def count_invitations(db: Db, project_id: UUID, *, now: datetime) -> int:
    """How many invitations of the project have not expired."""
    return int(
        await db.fetchval("SELECT count(*) FROM invitations WHERE project_id = $1 AND expires_at > $2", project_id, now)
    )


async def find_invitation(db: Db, project_id: UUID, invitation_id: UUID) -> Invitation | None:
    """The invitation with this id, expired or not; until the transaction ends no other one changes it."""
    row = await db.fetchrow(
        "SELECT id, project_id, email, role, created_at, expires_at FROM invitations"
        " WHERE project_id = $1 AND id = $2 FOR UPDATE",
        project_id,
        invitation_id,
    )
    return None if row is None else _invitation(row)


async def renew_invitation(db: Db, project_id: UUID, invitation_id: UUID, *, now: datetime) -> tuple[Invitation, str]:
    """Give an invitation, which exists, another token and its whole lifetime; the token before ends."""
    token, token_hash = new_token(INVITATION)
    row = await db.fetchrow(
        """
        UPDATE invitations SET token_hash = $3, expires_at = $4 WHERE project_id = $1 AND id = $2
        RETURNING id, project_id, email, role, created_at, expires_at
        """,
        project_id,
        invitation_id,
        token_hash,
        now + INVITATION_LIFETIME,
    )
    return _invitation(row), token


async def revoke_invitation(db: Db, project_id: UUID, invitation_id: UUID) -> bool:
    """Delete an invitation; whether it existed."""
    found = await db.fetchval(
        "DELETE FROM invitations WHERE project_id = $1 AND id = $2 RETURNING id", project_id, invitation_id
    )
    return found is not None
