"""Links that log a user in once: the set-up of an installation, a forgotten password."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sluice.store.db import Db
from sluice.store.secret_tokens import LOGIN_LINK, hash_token, new_token


class Purpose(StrEnum):
    """What a login link is for."""

    SETUP = "setup"
    PASSWORD_RESET = "password_reset"  # noqa: S105  (no password)


LIFETIMES = {Purpose.SETUP: timedelta(minutes=10), Purpose.PASSWORD_RESET: timedelta(hours=1)}


@dataclass(frozen=True, slots=True)
class LoginLink:
    """A link that was taken."""

    user_id: UUID
    loopback_only: bool


async def create_link(db: Db, user_id: UUID, purpose: Purpose, *, now: datetime, loopback_only: bool = False) -> str:
    """Create a link and return its token; earlier ones of the user for the same purpose end."""
    token, token_hash = new_token(LOGIN_LINK)
    await db.execute("DELETE FROM login_links WHERE user_id = $1 AND purpose = $2", user_id, purpose.value)
    await db.execute(
        "INSERT INTO login_links (token_hash, user_id, purpose, loopback_only, expires_at) VALUES ($1, $2, $3, $4, $5)",
        token_hash,
        user_id,
        purpose.value,
        loopback_only,
        now + LIFETIMES[purpose],
    )
    return token


async def take_link(db: Db, token: str, purpose: Purpose, *, now: datetime) -> LoginLink | None:
    """The link of a token, which serves once: it is deleted."""
    row = await db.fetchrow(
        "DELETE FROM login_links WHERE token_hash = $1 AND purpose = $2 AND expires_at > $3"
        " RETURNING user_id, loopback_only",
        hash_token(token),
        purpose.value,
        now,
    )
    return None if row is None else LoginLink(**row)


async def delete_links(db: Db, user_id: UUID) -> None:
    """End all links of a user: after a new password none may log in."""
    await db.execute("DELETE FROM login_links WHERE user_id = $1", user_id)
