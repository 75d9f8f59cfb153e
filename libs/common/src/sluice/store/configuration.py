"""Projects, API keys and providers: what roles keep in memory, and how it is written."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.store.cipher import CredentialCipher
from sluice.store.db import Db

_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_HEAD, _LOOKUP, _SECRET, _CHECK = 8, 12, 30, 6  # letters; the secret carries 170 random bits


@dataclass(frozen=True, slots=True)
class Project:
    """A project: the scope of everything else."""

    id: UUID
    organization_id: UUID
    slug: str
    name: str
    default_sender: str | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; the key itself is not."""

    id: UUID
    project_id: UUID
    name: str
    key_prefix: str
    key_hash: bytes
    is_test: bool

    def matches(self, key: str) -> bool:
        """Whether ``key`` is this key, in constant time."""
        return hmac.compare_digest(self.key_hash, hashlib.sha256(key.encode()).digest())


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One configured account of a provider package."""

    id: UUID
    project_id: UUID
    package: str
    channel: Channel
    name: str
    priority: int
    enabled: bool
    encrypted_credentials: bytes  # sealed
    settings: Mapping[str, Any]
    version: int
    deleted: bool


def generate_key(*, is_test: bool) -> tuple[str, str]:
    """A new key and its public look-up part: ``sp_live_`` (or ``sp_test_``), look-up, secret, checksum."""
    lookup = "".join(secrets.choice(_LETTERS) for _ in range(_LOOKUP))
    secret = "".join(secrets.choice(_LETTERS) for _ in range(_SECRET))
    head = f"sp_{'test' if is_test else 'live'}_{lookup}{secret}"
    return head + _checksum(head), lookup


def key_prefix(key: str) -> str:
    """Where a key has its look-up part; of a text that is no key, anything."""
    return key[_HEAD : _HEAD + _LOOKUP]


def parse_key_prefix(key: str) -> str | None:
    """The public part of a well-formed key; None for what cannot be one, without asking anybody."""
    if key[:_HEAD] not in ("sp_live_", "sp_test_") or not key.isascii():
        return None
    if len(key) != _HEAD + _LOOKUP + _SECRET + _CHECK:
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


async def create_project(db: Db, *, organization: str, slug: str, name: str, now: datetime) -> Project:
    """A new organization with a first project."""
    organization_id, project_id = uuid7(), uuid7()
    await db.execute("INSERT INTO organizations VALUES ($1, $2, $3)", organization_id, organization, now)
    await db.execute(
        "INSERT INTO projects (id, organization_id, slug, name, created_at) VALUES ($1, $2, $3, $4, $5)",
        project_id,
        organization_id,
        slug,
        name,
        now,
    )
    return Project(project_id, organization_id, slug, name, None)


async def project_by_slug(db: Db, slug: str) -> Project | None:
    """The project of that slug."""
    row = await db.fetchrow(
        "SELECT id, organization_id, slug, name, default_sender FROM projects WHERE slug = $1", slug
    )
    return None if row is None else Project(**row)


async def list_projects(db: Db, project_id: UUID | None = None) -> list[Project]:
    """All projects, or the one named."""
    rows = await db.fetch(
        "SELECT id, organization_id, slug, name, default_sender FROM projects WHERE $1::uuid IS NULL OR id = $1",
        project_id,
    )
    return [Project(**row) for row in rows]


async def create_key(db: Db, project_id: UUID, *, name: str, is_test: bool, now: datetime) -> str:
    """A new API key; this is the only time its text exists."""
    key, lookup = generate_key(is_test=is_test)
    await db.execute(
        "INSERT INTO api_keys (id, project_id, name, lookup, digest, sandbox, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        uuid7(),
        project_id,
        name,
        lookup,
        hashlib.sha256(key.encode()).digest(),
        is_test,
        now,
    )
    return key


async def list_keys(db: Db, project_id: UUID | None = None) -> list[ApiKey]:
    """All active keys, or those of one project."""
    rows = await db.fetch(
        "SELECT id, project_id, name, lookup, digest, sandbox FROM api_keys"
        " WHERE is_active AND ($1::uuid IS NULL OR project_id = $1)",
        project_id,
    )
    return [ApiKey(**row) for row in rows]


async def find_key_by_prefix(db: Db, prefix: str) -> ApiKey | None:
    """The active key with this public part."""
    row = await db.fetchrow(
        "SELECT id, project_id, name, lookup, digest, sandbox FROM api_keys WHERE is_active AND lookup = $1", prefix
    )
    return None if row is None else ApiKey(**row)


async def create_provider(
    db: Db,
    cipher: CredentialCipher,
    project_id: UUID,
    *,
    package: str,
    channel: Channel,
    name: str,
    credentials: Mapping[str, Any],
    now: datetime,
    priority: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> UUID:
    """A new provider, last in its channel unless ``priority`` says otherwise. The credentials are already checked."""
    provider_id = uuid7()
    encrypted = cipher.encrypt(json.dumps(credentials).encode(), project_id=project_id, provider_id=provider_id)
    await db.execute(
        """
        INSERT INTO providers (id, project_id, package, channel, name, priority, credentials, settings,
                               created_at, updated_at)
        SELECT $1, $2, $3, $4, $5,
               coalesce($6, (SELECT coalesce(max(priority), 0) + 1 FROM providers
                              WHERE project_id = $2 AND channel = $4 AND deleted_at IS NULL)),
               $7, $8, $9, $9
        """,
        provider_id,
        project_id,
        package,
        channel.value,
        name,
        priority,
        encrypted,
        json.dumps(dict(settings or {})),
        now,
    )
    return provider_id


async def list_providers(db: Db, project_id: UUID | None = None) -> list[ProviderRow]:
    """All providers in routing order, or those of one project; deleted ones too, for what is still in flight."""
    rows = await db.fetch(
        """
        SELECT id, project_id, package, channel, name, priority, enabled, credentials, settings, version,
               deleted_at IS NOT NULL AS deleted
          FROM providers
         WHERE $1::uuid IS NULL OR project_id = $1
         ORDER BY project_id, channel, priority, id
        """,
        project_id,
    )
    return [_provider(row) for row in rows]


def _provider(row: Any) -> ProviderRow:
    fields = dict(row)
    fields["channel"] = Channel(fields["channel"])
    fields["settings"] = json.loads(fields["settings"])
    return ProviderRow(**fields)


async def update_provider(
    db: Db,
    provider_id: UUID,
    *,
    now: datetime,
    enabled: bool | None = None,
    encrypted_credentials: bytes | None = None,
    deleted: bool = False,
) -> None:
    """Change what is given; every change is a new version."""
    await db.execute(
        """
        UPDATE providers
           SET enabled = coalesce($2, enabled), credentials = coalesce($3, credentials),
               deleted_at = CASE WHEN $4 THEN $5 ELSE deleted_at END, version = version + 1, updated_at = $5
         WHERE id = $1
        """,
        provider_id,
        enabled,
        encrypted_credentials,
        deleted,
        now,
    )
