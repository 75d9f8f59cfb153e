"""API keys: a head, a public prefix, a secret, a checksum. Only a hash is stored.

The head is ``sp_live_`` or ``sp_test_``, or ``mzl_`` for a key that the project API made. Either API accepts each.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.store.db import Db

_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_PREFIX, _SECRET, _CHECK = 12, 30, 6  # letters; the secret carries 170 random bits

LIVE, TEST, PROJECT_API = "sp_live_", "sp_test_", "mzl_"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored API key, without its secret."""

    id: UUID
    project_id: UUID
    name: str
    key_prefix: str
    key_hash: bytes
    is_test: bool

    def matches(self, key: str) -> bool:
        """Whether ``key`` is this key, in constant time."""
        return hmac.compare_digest(self.key_hash, hashlib.sha256(key.encode()).digest())


def generate_key(head: str) -> tuple[str, str]:
    """A new key, which begins with ``head``, and its public prefix."""
    prefix = "".join(secrets.choice(_LETTERS) for _ in range(_PREFIX))
    secret = "".join(secrets.choice(_LETTERS) for _ in range(_SECRET))
    text = f"{head}{prefix}{secret}"
    return text + _checksum(text), prefix


def key_prefix(key: str) -> str:
    """The public prefix of a key; any text if ``key`` is not a key."""
    start = len(PROJECT_API if key.startswith(PROJECT_API) else LIVE)
    return key[start : start + _PREFIX]


def is_key_prefix(text: str) -> bool:
    """Whether ``text`` has the form of a public prefix."""
    return len(text) == _PREFIX and set(text) <= set(_LETTERS)


def parse_key_prefix(key: str) -> str | None:
    """The public prefix of a well-formed key; None for any other text."""
    head = next((head for head in (LIVE, TEST, PROJECT_API) if key.startswith(head)), None)
    if head is None or not key.isascii() or len(key) != len(head) + _PREFIX + _SECRET + _CHECK:
        return None
    if not hmac.compare_digest(key[-_CHECK:], _checksum(key[:-_CHECK])):
        return None
    return key_prefix(key)


def _checksum(head: str) -> str:
    value = zlib.crc32(head.encode())
    letters = []
    for _ in range(_CHECK):
        value, digit = divmod(value, len(_LETTERS))
        letters.append(_LETTERS[digit])
    return "".join(letters)


@dataclass(frozen=True, slots=True)
class KeySummary:
    """An API key as a list shows it. ``begins_with``: head and public prefix; ``created_by``: None for the command
    line; ``is_active``: a key that is not is refused until it is activated again.
    """

    id: UUID
    name: str
    begins_with: str
    is_test: bool
    is_active: bool
    created_by: UUID | None
    created_at: datetime


async def create_key(
    db: Db, project_id: UUID, *, name: str, is_test: bool, now: datetime, created_by: UUID | None = None
) -> str:
    """Create an API key and return it; its text is not stored."""
    return (await create_named_key(db, project_id, name=name, is_test=is_test, now=now, created_by=created_by))[0]


async def create_named_key(
    db: Db,
    project_id: UUID,
    *,
    name: str,
    is_test: bool,
    now: datetime,
    created_by: UUID | None = None,
    head: str | None = None,
) -> tuple[str, KeySummary]:
    """Create an API key: its text, which is not stored, and its description. ``head``: by default that of the mode."""
    head = head or (TEST if is_test else LIVE)
    key, prefix = generate_key(head)
    summary = KeySummary(uuid7(), name, head + prefix, is_test, True, created_by, now)
    await db.execute(
        "INSERT INTO api_keys (id, project_id, name, head, key_prefix, key_hash, is_test, created_by, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        summary.id,
        project_id,
        name,
        head,
        prefix,
        hashlib.sha256(key.encode()).digest(),
        is_test,
        created_by,
        now,
    )
    return key, summary


_SUMMARY = "id, name, head || key_prefix AS begins_with, is_test, is_active, created_by, created_at"


async def list_summaries(
    db: Db, project_id: UUID, *, limit: int, before: UUID | None = None, offset: int = 0
) -> list[KeySummary]:
    """The newest keys of a project, those older than the id ``before``, without the ``offset`` newest of these."""
    rows = await db.fetch(
        f"""
        SELECT {_SUMMARY} FROM api_keys
         WHERE project_id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id < $2)
         ORDER BY id DESC
         LIMIT $3 OFFSET $4
        """,  # noqa: S608  (a constant)
        project_id,
        before,
        limit,
        offset,
    )
    return [KeySummary(**row) for row in rows]


async def count_keys(db: Db, project_id: UUID) -> int:
    """How many keys the project has."""
    return int(
        await db.fetchval("SELECT count(*) FROM api_keys WHERE project_id = $1 AND deleted_at IS NULL", project_id)
    )


async def update_key(
    db: Db, project_id: UUID, key_id: UUID, *, name: str | None, is_active: bool | None
) -> KeySummary | None:
    """Change a key of the project; None leaves a value as it is. None if there is no key with this id."""
    row = await db.fetchrow(
        f"""
        UPDATE api_keys SET name = coalesce($3, name), is_active = coalesce($4, is_active)
         WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL
        RETURNING {_SUMMARY}
        """,  # noqa: S608  (a constant)
        project_id,
        key_id,
        name,
        is_active,
    )
    return None if row is None else KeySummary(**row)


async def revoke_key(db: Db, project_id: UUID, key_id: UUID, *, now: datetime) -> str | None:
    """Revoke a key of the project for good; its name, or None if there is none with this id."""
    name: str | None = await db.fetchval(
        "UPDATE api_keys SET is_active = false, deleted_at = $3"
        " WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING name",
        project_id,
        key_id,
        now,
    )
    return name


async def list_keys(db: Db, project_id: UUID | None = None) -> list[ApiKey]:
    """All active keys, or those of one project."""
    rows = await db.fetch(
        "SELECT id, project_id, name, key_prefix, key_hash, is_test FROM api_keys"
        " WHERE is_active AND ($1::uuid IS NULL OR project_id = $1)",
        project_id,
    )
    return [ApiKey(**row) for row in rows]


async def find_keys(db: Db, prefixes: Sequence[str]) -> dict[str, ApiKey]:
    """The active keys with these public prefixes, by prefix."""
    rows = await db.fetch(
        "SELECT id, project_id, name, key_prefix, key_hash, is_test FROM api_keys"
        " WHERE is_active AND key_prefix = ANY($1::text[])",
        list(set(prefixes)),
    )
    return {row["key_prefix"]: ApiKey(**row) for row in rows}
