"""API keys of a project, for every API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from gateway.auth.principal import KeyPrincipal, Principal
from gateway.errors import NotFound
from gateway.kit.limits import MAX_KEYS, require_room
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model import ids
from sluice.runtime.clock import utc_now
from sluice.store import api_keys, audit
from sluice.store.api_keys import KeySummary
from sluice.store.audit import Actor
from sluice.store.db import Db

NO_KEY = "The project has no such key."


async def create(
    services: Services, principal: Principal, *, name: str, is_test: bool, actor: Actor, head: str | None = None
) -> tuple[str, KeySummary]:
    """Create a key: its text, which is shown once, and its description. ``head``: what the text begins with.

    Raises:
        LimitReached: the project has as many keys as it may have.
        Unavailable: PostgreSQL does not answer.
    """
    created_by = None if isinstance(principal, KeyPrincipal) else principal.user_id
    async with transaction(services.pool, principal.project_id) as db:
        require_room(await api_keys.count_keys(db, principal.project_id), MAX_KEYS, "API keys")
        key, summary = await api_keys.create_named_key(
            db, principal.project_id, name=name, is_test=is_test, now=utc_now(), created_by=created_by, head=head
        )
        await _audit(db, actor, principal, summary.id, "created", {"name": name, "is_test": is_test})
    return key, summary


async def list_keys(services: Services, principal: Principal, *, limit: int, before: UUID | None) -> list[KeySummary]:
    """The keys of the principal's project, newest first, those older than ``before``.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await api_keys.list_summaries(db, principal.project_id, limit=limit, before=before)


async def page_of_keys(
    services: Services, principal: Principal, *, limit: int, offset: int
) -> tuple[list[KeySummary], int]:
    """The keys of the principal's project, newest first, without the first ``offset``, and how many it has.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        total = await api_keys.count_keys(db, principal.project_id)
        return await api_keys.list_summaries(db, principal.project_id, limit=limit, offset=offset), total


async def update(
    services: Services, principal: Principal, key_id: UUID, *, name: str | None, is_active: bool | None, actor: Actor
) -> KeySummary:
    """Change the name of a key, or whether it is accepted; None leaves a value as it is.

    Raises:
        NotFound: the project has no key with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        found = await api_keys.update_key(db, principal.project_id, key_id, name=name, is_active=is_active)
        if found is None:
            raise NotFound(NO_KEY)
        given = {"name": name, "is_active": is_active}
        changes = {field: value for field, value in given.items() if value is not None}
        await _audit(db, actor, principal, key_id, "updated", changes)
    return found


async def revoke(services: Services, principal: Principal, key_id: UUID, actor: Actor) -> None:
    """Revoke a key; gateways refuse it as soon as they are notified.

    Raises:
        NotFound: the project has no key with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        name = await api_keys.revoke_key(db, principal.project_id, key_id, now=utc_now())
        if name is None:
            raise NotFound(NO_KEY)
        await _audit(db, actor, principal, key_id, "revoked", {"name": name})


async def _audit(
    db: Db, actor: Actor, principal: Principal, key_id: UUID, action: str, changes: Mapping[str, Any]
) -> None:
    await audit.append(
        db,
        actor,
        project_id=principal.project_id,
        action=action,
        noun="key",
        object_id=ids.encode_id("key", key_id),
        changes=changes,
        now=utc_now(),
    )
