"""Providers: configured accounts of provider packages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sluice.model.candidate import Candidate
from sluice.model.message import Channel
from sluice.store.cipher import CredentialCipher
from sluice.store.db import Db


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
    encrypted_credentials: bytes
    settings: Mapping[str, Any]
    version: int
    deleted: bool
    credentials_version: int = 1

    @property
    def candidate(self) -> Candidate:
        """What routing knows of it."""
        return Candidate(self.id, self.package, self.priority, self.settings.get("weight"), self.settings.get("price"))


@dataclass(frozen=True, slots=True)
class ProviderView:
    """A provider with its place: ``position`` counts from 1 among the providers of its channel."""

    row: ProviderRow
    position: int
    created_at: datetime
    updated_at: datetime


async def create_provider(
    db: Db,
    provider_id: UUID,
    project_id: UUID,
    *,
    package: str,
    channel: Channel,
    name: str,
    encrypted_credentials: bytes,
    now: datetime,
    priority: int | None = None,
    settings: Mapping[str, Any] | None = None,
    enabled: bool = True,
) -> None:
    """Create a provider, last in its channel by default.

    The caller chooses the id, because the encryption of the credentials is bound to it.
    """
    await db.execute(
        """
        INSERT INTO providers (id, project_id, package, channel, name, priority, encrypted_credentials, settings,
                               created_at, updated_at, enabled)
        SELECT $1, $2, $3, $4, $5,
               coalesce($6, (SELECT coalesce(max(priority), 0) + 1 FROM providers
                              WHERE project_id = $2 AND channel = $4 AND deleted_at IS NULL)),
               $7, $8, $9, $9, $10
        """,
        provider_id,
        project_id,
        package,
        channel.value,
        name,
        priority,
        encrypted_credentials,
        json.dumps(dict(settings or {})),
        now,
        enabled,
    )


async def list_providers(db: Db, project_id: UUID | None = None) -> list[ProviderRow]:
    """All providers in routing order, or those of one project; deleted ones too, for attempts in flight and receipts,
    until their credentials are dropped.
    """
    rows = await db.fetch(
        """
        SELECT id, project_id, package, channel, name, priority, enabled, encrypted_credentials, settings, version,
               deleted_at IS NOT NULL AS deleted, credentials_version
          FROM providers
         WHERE ($1::uuid IS NULL OR project_id = $1) AND (deleted_at IS NULL OR encrypted_credentials <> '')
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


async def lock_providers(db: Db, project_id: UUID) -> None:
    """Let one transaction at a time change the providers of a project: their order and their versions stay right."""
    await db.execute("SELECT FROM projects WHERE id = $1 FOR NO KEY UPDATE", project_id)


async def count_providers(db: Db, project_id: UUID) -> int:
    """How many providers the project has, without deleted ones."""
    return int(
        await db.fetchval("SELECT count(*) FROM providers WHERE project_id = $1 AND deleted_at IS NULL", project_id)
    )


async def drop_old_credentials(db: Db, project_id: UUID, *, kept: int) -> None:
    """Drop the credentials of the project's deleted providers, except those of the ``kept`` newest."""
    await db.execute(
        """
        UPDATE providers SET encrypted_credentials = ''
         WHERE project_id = $1 AND deleted_at IS NOT NULL AND encrypted_credentials <> ''
           AND id NOT IN (SELECT id FROM providers WHERE project_id = $1 AND deleted_at IS NOT NULL
                           ORDER BY deleted_at DESC, id DESC LIMIT $2)
        """,
        project_id,
        kept,
    )


async def list_views(
    db: Db, project_id: UUID, *, channel: Channel | None = None, provider_id: UUID | None = None
) -> list[ProviderView]:
    """The providers of a project that are not deleted, in routing order; those of one channel, or one."""
    rows = await db.fetch(
        """
        SELECT * FROM (
            SELECT id, project_id, package, channel, name, priority, enabled, encrypted_credentials, settings, version,
                   false AS deleted, credentials_version, created_at, updated_at,
                   row_number() OVER (PARTITION BY channel ORDER BY priority, id) AS position
              FROM providers
             WHERE project_id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR channel = $2)
        ) p
         WHERE $3::uuid IS NULL OR id = $3
         ORDER BY channel, position
        """,
        project_id,
        None if channel is None else channel.value,
        provider_id,
    )
    return [_view(row) for row in rows]


def _view(row: Any) -> ProviderView:
    fields = dict(row)
    place = {name: fields.pop(name) for name in ("position", "created_at", "updated_at")}
    return ProviderView(row=_provider(fields), **place)


async def update_provider(
    db: Db,
    project_id: UUID,
    provider_id: UUID,
    *,
    now: datetime,
    name: str | None = None,
    enabled: bool | None = None,
    priority: int | None = None,
    encrypted_credentials: bytes | None = None,
    settings: Mapping[str, Any] | None = None,
    deleted: bool = False,
) -> None:
    """Change the given fields; every change increments the version.

    New credentials are encrypted for the next ``credentials_version``.
    """
    await db.execute(
        """
        UPDATE providers
           SET name = coalesce($3, name), enabled = coalesce($4, enabled), settings = coalesce($5, settings),
               encrypted_credentials = coalesce($6, encrypted_credentials), priority = coalesce($9, priority),
               credentials_version = credentials_version + ($6::bytea IS NOT NULL)::int,
               deleted_at = CASE WHEN $7 THEN $8 ELSE deleted_at END, version = version + 1, updated_at = $8
         WHERE project_id = $1 AND id = $2 AND deleted_at IS NULL
        """,
        project_id,
        provider_id,
        name,
        enabled,
        None if settings is None else json.dumps(dict(settings)),
        encrypted_credentials,
        deleted,
        now,
        priority,
    )


async def set_priorities(db: Db, project_id: UUID, wanted: Mapping[UUID, int], *, now: datetime) -> None:
    """Give these providers their priorities; rows that have theirs already are not changed."""
    await db.execute(
        """
        UPDATE providers p SET priority = o.priority, version = version + 1, updated_at = $3
          FROM unnest($2::uuid[], $4::integer[]) AS o (id, priority)
         WHERE p.project_id = $1 AND p.id = o.id AND p.deleted_at IS NULL AND p.priority <> o.priority
        """,
        project_id,
        list(wanted),
        now,
        list(wanted.values()),
    )


async def reencrypt_credentials(db: Db, cipher: CredentialCipher, *, limit: int = 200) -> tuple[int, int]:
    """Encrypt all credentials with the cipher's current key; returns how many were encrypted again, and how many not.

    Each is replaced only if it has not changed meanwhile. The plaintext, its versions and the running roles are not
    affected. Deleted providers are included as long as they have credentials, which their receipts still need.

    Raises:
        SluiceError: credentials cannot be decrypted with any configured key; the others are already replaced.
    """
    replaced = failed = 0
    after = UUID(int=0)
    while True:
        rows = await db.fetch(
            "SELECT id, project_id, encrypted_credentials, credentials_version FROM providers"
            " WHERE id > $1 AND encrypted_credentials <> '' ORDER BY id LIMIT $2",
            after,
            limit,
        )
        if not rows:
            return replaced, failed
        after = rows[-1]["id"]
        stale = [row for row in rows if not cipher.is_current(row["encrypted_credentials"])]
        fresh = [_reencrypt(cipher, row) for row in stale]
        changed = await db.fetch(
            """
            UPDATE providers p SET encrypted_credentials = n.new
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, old, new)
             WHERE p.id = n.id AND p.encrypted_credentials = n.old
            RETURNING p.id
            """,
            [row["id"] for row in stale],
            [row["encrypted_credentials"] for row in stale],
            fresh,
        )
        replaced += len(changed)
        failed += len(stale) - len(changed)


def _reencrypt(cipher: CredentialCipher, row: Any) -> bytes:
    bound = {"project_id": row["project_id"], "provider_id": row["id"], "version": row["credentials_version"]}
    return cipher.encrypt(cipher.decrypt(row["encrypted_credentials"], **bound), **bound)


async def count_stale_credentials(db: Db, cipher: CredentialCipher) -> int:
    """How many credentials are encrypted with another key than the current one."""
    rows = await db.fetch("SELECT encrypted_credentials FROM providers WHERE encrypted_credentials <> ''")
    return sum(not cipher.is_current(row["encrypted_credentials"]) for row in rows)
