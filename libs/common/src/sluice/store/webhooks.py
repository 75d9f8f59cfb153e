"""Webhook endpoints and their signing secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from sluice.model.ids import uuid7
from sluice.model.webhooks import DisabledReason
from sluice.runtime.errors import SluiceError
from sluice.store.cipher import CredentialCipher
from sluice.store.db import Db
from sluice.store.projects import ProjectScope

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What a customer decides about an endpoint. ``channels``, ``tags``: empty for all."""

    url: str
    events: tuple[str, ...]  # values of WebhookType
    channels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook endpoint. ``failing_since``: the first failed attempt after the newest successful one."""

    id: UUID
    scope: ProjectScope
    settings: EndpointSettings
    disabled_reason: DisabledReason | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


class Target(NamedTuple):
    """Where the events of an endpoint are sent to. ``secrets``: those that are valid, the newest first.

    ``updated_at``: the version of the endpoint that a call is about; what follows from the call counts for no other.
    """

    project_id: UUID
    url: str
    enabled: bool
    updated_at: datetime
    secrets: tuple[bytes, ...]


_COLUMNS = (
    "id, project_id, sandbox, url, description, events, channels, tags, enabled, disabled_reason, failing_since,"
    " created_at, updated_at"
)


def _from_row(row: Any) -> Endpoint:
    fields = dict(row)
    settings = EndpointSettings(
        url=fields["url"],
        events=tuple(fields["events"]),
        channels=tuple(fields["channels"]),
        tags=tuple(fields["tags"]),
        description=fields["description"],
        enabled=fields["enabled"],
    )
    reason = fields["disabled_reason"]
    return Endpoint(
        id=fields["id"],
        scope=ProjectScope(fields["project_id"], fields["sandbox"]),
        settings=settings,
        disabled_reason=None if reason is None else DisabledReason(reason),
        failing_since=fields["failing_since"],
        created_at=fields["created_at"],
        updated_at=fields["updated_at"],
    )


async def create_endpoint(
    db: Db, scope: ProjectScope, settings: EndpointSettings, *, limit: int, now: datetime
) -> Endpoint | None:
    """Create an endpoint without a secret; None if the project has ``limit`` of them already."""
    row = await db.fetchrow(
        f"""
        INSERT INTO webhook_endpoints (id, project_id, sandbox, url, description, events, channels, tags, enabled,
                                       created_at, updated_at)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10
         WHERE (SELECT count(*) FROM webhook_endpoints WHERE project_id = $2 AND sandbox = $3) < $11
        RETURNING {_COLUMNS}
        """,  # noqa: S608  a constant
        uuid7(),
        *scope,
        *_values(settings),
        now,
        limit,
    )
    return None if row is None else _from_row(row)


def _values(settings: EndpointSettings) -> tuple[Any, ...]:
    return (
        settings.url,
        settings.description,
        list(settings.events),
        list(settings.channels),
        list(settings.tags),
        settings.enabled,
    )


async def find_endpoint(db: Db, scope: ProjectScope, endpoint_id: UUID) -> Endpoint | None:
    """The endpoint; None if the scope has none with this id."""
    row = await db.fetchrow(
        f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE id = $1 AND project_id = $2 AND sandbox = $3",  # noqa: S608
        endpoint_id,
        *scope,
    )
    return None if row is None else _from_row(row)


async def list_endpoints(db: Db, scope: ProjectScope, *, limit: int, before: UUID | None = None) -> list[Endpoint]:
    """The newest endpoints of the scope, those older than the id ``before``."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM webhook_endpoints
         WHERE project_id = $1 AND sandbox = $2 AND ($3::uuid IS NULL OR id < $3)
         ORDER BY id DESC
         LIMIT $4
        """,  # noqa: S608  a constant
        *scope,
        before,
        limit,
    )
    return [_from_row(row) for row in rows]


async def update_endpoint(
    db: Db, scope: ProjectScope, endpoint_id: UUID, changes: Mapping[str, Any], *, now: datetime
) -> tuple[Endpoint, Endpoint] | None:
    """Change fields of :class:`EndpointSettings` in a transaction: the endpoint before and after; None if it is gone.

    ``enabled`` also forgets why Sluice disabled it; that and another ``url`` forget that it was failing.
    """
    row = await db.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM webhook_endpoints WHERE id = $1 AND project_id = $2 AND sandbox = $3 FOR UPDATE
        """,  # noqa: S608  a constant
        endpoint_id,
        *scope,
    )
    if row is None:
        return None
    before = _from_row(row)
    row = await db.fetchrow(
        f"""
        UPDATE webhook_endpoints
           SET url = $2, description = $3, events = $4, channels = $5, tags = $6, enabled = $7, updated_at = $8,
               disabled_reason = CASE WHEN $9 THEN NULL ELSE disabled_reason END,
               failing_since = CASE WHEN $9 OR url <> $2 THEN NULL ELSE failing_since END
         WHERE id = $1
        RETURNING {_COLUMNS}
        """,  # noqa: S608  a constant
        endpoint_id,
        *_values(replace(before.settings, **changes)),
        now,
        "enabled" in changes,
    )
    return before, _from_row(row)


async def delete_endpoint(db: Db, scope: ProjectScope, endpoint_id: UUID) -> Endpoint | None:
    """Delete an endpoint with its secrets; None if there is none. Its pending deliveries are skipped once due."""
    row = await db.fetchrow(
        f"DELETE FROM webhook_endpoints WHERE id = $1 AND project_id = $2 AND sandbox = $3 RETURNING {_COLUMNS}",  # noqa: S608
        endpoint_id,
        *scope,
    )
    return None if row is None else _from_row(row)


class Disabled(NamedTuple):
    """An endpoint that Sluice has just disabled."""

    endpoint: Endpoint
    project_slug: str
    owners: tuple[str, ...]  # e-mail addresses of those who may configure the project


async def disable_endpoint(
    db: Db,
    endpoint_id: UUID,
    reason: DisabledReason,
    *,
    updated_at: datetime,
    failing_before: datetime | None,
    now: datetime,
) -> Disabled | None:
    """Disable the endpoint; None if it was not enabled, or was changed since ``updated_at``.

    ``failing_before``: only without a successful attempt since then; None for any.
    """
    row = await db.fetchrow(
        f"""
        WITH disabled AS (
            UPDATE webhook_endpoints SET enabled = false, disabled_reason = $2, updated_at = $4
             WHERE id = $1 AND enabled AND updated_at = $5 AND ($3::timestamptz IS NULL OR failing_since <= $3)
            RETURNING {_COLUMNS}
        )
        SELECT d.*, p.slug AS project_slug,
               ARRAY(SELECT u.email FROM memberships m JOIN users u ON u.id = m.user_id
                      WHERE m.project_id = d.project_id AND m.role IN ('owner', 'admin') ORDER BY u.id) AS owners
          FROM disabled d JOIN projects p ON p.id = d.project_id
        """,  # noqa: S608  a constant
        endpoint_id,
        reason.value,
        failing_before,
        now,
        updated_at,
    )
    return None if row is None else Disabled(_from_row(row), row["project_slug"], tuple(row["owners"]))


# -- secrets -------------------------------------------------------------------------------------------------------


async def add_secret(
    db: Db, cipher: CredentialCipher, endpoint: Endpoint, secret: bytes, *, older_expire_at: datetime
) -> int:
    """Add the secret that signs from now on, in a transaction; older ones expire at ``older_expire_at`` at the latest.

    Returns its version. Raises SluiceError: the encryption keys cannot be read.
    """
    await db.execute("SELECT FROM webhook_endpoints WHERE id = $1 FOR UPDATE", endpoint.id)
    newest: int = await db.fetchval(
        "SELECT coalesce(max(version), 0) FROM webhook_secrets WHERE endpoint_id = $1", endpoint.id
    )
    # Of the older ones only the newest stays valid: a second rotation during a grace ends the first secret.
    await db.execute("DELETE FROM webhook_secrets WHERE endpoint_id = $1 AND version < $2", endpoint.id, newest)
    await db.execute("UPDATE webhook_secrets SET expires_at = $2 WHERE endpoint_id = $1", endpoint.id, older_expire_at)
    version, project_id = newest + 1, endpoint.scope.project_id
    await db.execute(
        "INSERT INTO webhook_secrets (endpoint_id, project_id, version, encrypted_secret) VALUES ($1, $2, $3, $4)",
        endpoint.id,
        project_id,
        version,
        cipher.seal(secret, _bound_to(project_id, endpoint.id, version)),
    )
    return version


async def load_targets(
    db: Db, cipher: CredentialCipher, endpoint_ids: Sequence[UUID], *, now: datetime | None = None
) -> dict[UUID, Target]:
    """The endpoints with their valid secrets, by id; those that were deleted are absent.

    A secret that cannot be decrypted is logged and omitted, so that it stops no other endpoint. Without ``now`` the
    database's clock decides which are valid.
    """
    rows = await db.fetch(
        """
        SELECT w.id, w.project_id, w.url, w.enabled, w.updated_at, s.version, s.encrypted_secret
          FROM webhook_endpoints w
          JOIN webhook_secrets s ON s.endpoint_id = w.id
                                AND (s.expires_at IS NULL OR s.expires_at > coalesce($2::timestamptz, now()))
         WHERE w.id = ANY($1::uuid[])
        """,
        list(endpoint_ids),
        now,
    )
    targets: dict[UUID, Target] = {}
    for row in sorted(rows, key=lambda row: -row["version"]):
        target = targets.get(row["id"], Target(row["project_id"], row["url"], row["enabled"], row["updated_at"], ()))
        bound = _bound_to(row["project_id"], row["id"], row["version"])
        try:
            secret = cipher.unseal(row["encrypted_secret"], bound, noun=f"the secrets of webhook {row['id']}")
        except SluiceError as error:
            log.error("webhook_secret_unreadable", webhook=str(row["id"]), detail=str(error))
            targets[row["id"]] = target
        else:
            targets[row["id"]] = target._replace(secrets=(*target.secrets, secret))
    return targets


async def reencrypt_secrets(db: Db, cipher: CredentialCipher, *, limit: int = 500) -> int:
    """Encrypt with the current key the secrets that are not; returns how many. Safe to repeat, and beside rotations.

    Raises:
        SluiceError: a secret cannot be decrypted.
    """
    replaced, after = 0, (UUID(int=0), 0)
    while True:
        rows = await db.fetch(
            "SELECT endpoint_id, project_id, version, encrypted_secret FROM webhook_secrets"
            " WHERE (endpoint_id, version) > ($1, $2) ORDER BY endpoint_id, version LIMIT $3",
            *after,
            limit,
        )
        if not rows:
            return replaced
        after = (rows[-1]["endpoint_id"], rows[-1]["version"])
        stale = [row for row in rows if not cipher.is_current(row["encrypted_secret"])]
        changed = await db.fetch(
            """
            UPDATE webhook_secrets s SET encrypted_secret = n.new
              FROM unnest($1::uuid[], $2::int[], $3::bytea[]) AS n (endpoint_id, version, new)
             WHERE s.endpoint_id = n.endpoint_id AND s.version = n.version
            RETURNING s.version
            """,
            [row["endpoint_id"] for row in stale],
            [row["version"] for row in stale],
            [_reencrypt(cipher, row) for row in stale],
        )
        replaced += len(changed)


def _reencrypt(cipher: CredentialCipher, row: Any) -> bytes:
    bound = _bound_to(row["project_id"], row["endpoint_id"], row["version"])
    noun = f"the secrets of webhook {row['endpoint_id']}"
    return cipher.seal(cipher.unseal(row["encrypted_secret"], bound, noun=noun), bound)


async def count_stale_secrets(db: Db, cipher: CredentialCipher) -> int:
    """How many secrets are encrypted with another key than the current one."""
    rows = await db.fetch("SELECT encrypted_secret FROM webhook_secrets")
    return sum(not cipher.is_current(row["encrypted_secret"]) for row in rows)


def _bound_to(project_id: UUID, endpoint_id: UUID, version: int) -> bytes:
    return b"sluice webhook secret" + project_id.bytes + endpoint_id.bytes + version.to_bytes(8, "big")
