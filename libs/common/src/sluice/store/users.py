"""Users: people who log in."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sluice.model.address import parse_address
from sluice.model.ids import uuid7
from sluice.store.db import Db

_COLUMNS = "id, email, name, password_hash, is_confirmed, created_at"


@dataclass(frozen=True, slots=True)
class User:
    """A person. ``password_hash``: None until the first password is set. ``is_confirmed``: the address is the person's,
    which a sign-up does not prove.
    """

    id: UUID
    email: str
    name: str
    password_hash: str | None = field(repr=False)
    is_confirmed: bool
    created_at: datetime


def email_key(email: str) -> str:
    """The form of an address in which two users never share it: normalised, in lower case.

    Raises:
        InvalidAddressError: ``email`` is not an address.
    """
    return unicodedata.normalize("NFC", parse_address(email).bare).casefold()


async def create_user(
    db: Db, email: str, *, name: str, now: datetime, password_hash: str | None = None, is_confirmed: bool = True
) -> User | None:
    """Create a user; None if one has this address already."""
    row = await db.fetchrow(
        f"""
        INSERT INTO users (id, email, email_key, name, password_hash, is_confirmed, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT ON CONSTRAINT users_email_taken DO NOTHING
        RETURNING {_COLUMNS}
        """,  # noqa: S608  (a constant)
        uuid7(),
        email,
        email_key(email),
        name,
        password_hash,
        is_confirmed,
        now,
    )
    return None if row is None else User(**row)


async def find_user_by_email(db: Db, email: str) -> User | None:
    """The user with this address, in whatever case it is written."""
    row = await db.fetchrow(f"SELECT {_COLUMNS} FROM users WHERE email_key = $1", email_key(email))  # noqa: S608
    return None if row is None else User(**row)


async def find_user(db: Db, user_id: UUID) -> User | None:
    """The user with this id."""
    row = await db.fetchrow(f"SELECT {_COLUMNS} FROM users WHERE id = $1", user_id)  # noqa: S608
    return None if row is None else User(**row)


async def lock_user(db: Db, user_id: UUID) -> User | None:
    """The user with this id; until the transaction ends no other one changes its password."""
    row = await db.fetchrow(f"SELECT {_COLUMNS} FROM users WHERE id = $1 FOR UPDATE", user_id)  # noqa: S608
    return None if row is None else User(**row)


async def set_password(db: Db, user_id: UUID, password_hash: str) -> None:
    """Replace the password's hash."""
    await db.execute("UPDATE users SET password_hash = $2 WHERE id = $1", user_id, password_hash)


async def confirm(db: Db, user_id: UUID) -> None:
    """Record that the user's address is the person's."""
    await db.execute("UPDATE users SET is_confirmed = true WHERE id = $1 AND NOT is_confirmed", user_id)


async def set_name(db: Db, user_id: UUID, name: str) -> None:
    """Replace the name."""
    await db.execute("UPDATE users SET name = $2 WHERE id = $1", user_id, name)


async def list_users(db: Db) -> list[User]:
    """All users, oldest first."""
    rows = await db.fetch(f"SELECT {_COLUMNS} FROM users ORDER BY id")  # noqa: S608
    return [User(**row) for row in rows]
