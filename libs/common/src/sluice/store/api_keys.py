"""API keys: ``sp_live_`` or ``sp_test_``, a public prefix, a secret, a checksum. Only a hash is stored."""

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
_HEAD, _PREFIX, _SECRET, _CHECK = 8, 12, 30, 6  # letters; the secret carries 170 random bits


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


def generate_key(*, is_test: bool) -> tuple[str, str]:
    """A new key and its public prefix."""
    prefix = "".join(secrets.choice(_LETTERS) for _ in range(_PREFIX))
    secret = "".join(secrets.choice(_LETTERS) for _ in range(_SECRET))
    head = f"sp_{'test' if is_test else 'live'}_{prefix}{secret}"
    return head + _checksum(head), prefix


def key_prefix(key: str) -> str:
    """The public prefix of a key; any text if ``key`` is not a key."""
    return key[_HEAD : _HEAD + _PREFIX]


def is_key_prefix(text: str) -> bool:
    """Whether ``text`` has the form of a public prefix."""
    return len(text) == _PREFIX and set(text) <= set(_LETTERS)


def parse_key_prefix(key: str) -> str | None:
    """The public prefix of a well-formed key; None for any other text."""
    if key[:_HEAD] not in ("sp_live_", "sp_test_") or not key.isascii():
        return None
    if len(key) != _HEAD + _PREFIX + _SECRET + _CHECK:
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
    """An API key as a list shows it. ``key_prefix``: its public part; ``created_by``: None for the command line."""

    id: UUID
    name: str
    key_prefix: str
    is_test: bool
    created_by: UUID | None
    created_at: datetime


async def create_key(
    db: Db, project_id: UUID, *, name: str, is_test: bool, now: datetime, created_by: UUID | None = None
) -> str:
    """Create an API key and return it; its text is not stored."""
    return (await create_named_key(db, project_id, name=name, is_test=is_test, now=now, created_by=created_by))[0]


async def create_named_key(
    db: Db, project_id: UUID, *, name: str, is_test: bool, now: datetime, created_by: UUID | None = None
) -> tuple[str, KeySummary]:
    """Create an API key: its text, which is not stored, and its description."""
    key, prefix = generate_key(is_test=is_test)
    summary = KeySummary(uuid7(), name, prefix, is_test, created_by, now)
    await db.execute(
        "INSERT INTO api_keys (id, project_id, name, key_prefix, key_hash, is_test, created_by, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        summary.id,
        project_id,
        name,
        prefix,
        hashlib.sha256(key.encode()).digest(),
        is_test,
        created_by,
        now,
    )
    return key, summary


async def list_summaries(db: Db, project_id: UUID, *, limit: int, before: UUID | None = None) -> list[KeySummary]:
    """The newest active keys of a project, those older than the id ``before``."""
    rows = await db.fetch(
        """
        SELECT id, name, key_prefix, is_test, created_by, created_at
          FROM api_keys
         WHERE project_id = $1 AND is_active AND ($2::uuid IS NULL OR id < $2)
         ORDER BY id DESC
         LIMIT $3
        """,
        project_id,
        before,
        limit,
    )
    return [KeySummary(**row) for row in rows]


async def revoke_key(db: Db, project_id: UUID, key_id: UUID) -> str | None:
    """Revoke a key of the project; its name, or None if there is no active one with this id."""
    name: str | None = await db.fetchval(
        "UPDATE api_keys SET is_active = false WHERE project_id = $1 AND id = $2 AND is_active RETURNING name",
        project_id,
        key_id,
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
