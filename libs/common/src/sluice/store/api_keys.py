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


async def create_key(db: Db, project_id: UUID, *, name: str, is_test: bool, now: datetime) -> str:
    """Create an API key and return it; its text is not stored."""
    key, prefix = generate_key(is_test=is_test)
    await db.execute(
        "INSERT INTO api_keys (id, project_id, name, key_prefix, key_hash, is_test, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        uuid7(),
        project_id,
        name,
        prefix,
        hashlib.sha256(key.encode()).digest(),
        is_test,
        now,
    )
    return key


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
