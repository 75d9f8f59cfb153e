"""Sending domains of a project, for every API."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg

from gateway.auth.principal import Principal
from gateway.domains.checker import RecordStatus
from gateway.errors import DomainExists, DomainInUse, NotFound
from gateway.kit.limits import MAX_DOMAINS, require_room
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model import ids
from sluice.runtime.clock import utc_now
from sluice.store import audit, domains
from sluice.store.audit import Actor
from sluice.store.db import Db
from sluice.store.domains import Domain

NO_DOMAIN = "The project has no such domain."


async def create(services: Services, principal: Principal, domain: str, actor: Actor) -> Domain:
    """Add a domain, not verified yet.

    Raises:
        DomainExists: the project has it already.
        LimitReached: it has as many domains as it may have.
        Unavailable: PostgreSQL does not answer.
    """
    try:
        async with transaction(services.pool, principal.project_id) as db:
            require_room(await domains.count_domains(db, principal.project_id), MAX_DOMAINS, "domains")
            created = await domains.create_domain(
                db, principal.project_id, domain=domain, token=secrets.token_hex(16), now=utc_now()
            )
            await _audit(db, actor, principal, created, "created")
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "domains_once":
            raise
        raise DomainExists(f"The project has the domain {domain} already.", field="domain") from None
    return created


async def list_domains(services: Services, principal: Principal, *, limit: int, before: UUID | None) -> list[Domain]:
    """The domains of the principal's project, newest first.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await domains.list_domains(db, principal.project_id, limit=limit, before=before)


async def find(services: Services, principal: Principal, domain_id: UUID) -> Domain:
    """One domain of the principal's project.

    Raises:
        NotFound: the project has no domain with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        found = await domains.find_domain(db, principal.project_id, domain_id)
    if found is None:
        raise NotFound(NO_DOMAIN)
    return found


async def verify(services: Services, principal: Principal, domain_id: UUID, actor: Actor) -> Domain:
    """Check the DNS records now. A record about which DNS gave no answer keeps its earlier status.

    Raises:
        NotFound: the project has no domain with this id.
        Unavailable: PostgreSQL does not answer.
    """
    before = await find(services, principal, domain_id)
    records = services.domains.records(before.token)
    statuses = await services.domains.check(before.domain, records)
    found = {
        record.purpose.value: status.value
        for record, status in zip(records, statuses, strict=True)
        if status is not RecordStatus.UNKNOWN
    }
    async with transaction(services.pool, principal.project_id) as db:
        checked = await domains.record_check(db, principal.project_id, domain_id, statuses=found, now=utc_now())
        if checked is None:  # it was deleted meanwhile
            raise NotFound(NO_DOMAIN)
        if checked.statuses != before.statuses:
            await _audit(db, actor, principal, checked, "verified", checked.statuses)
    return checked


async def delete(services: Services, principal: Principal, domain_id: UUID, actor: Actor) -> None:
    """Remove a domain.

    Raises:
        NotFound: the project has no domain with this id.
        DomainInUse: messages from it are not settled.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        found = await domains.find_domain(db, principal.project_id, domain_id)
        if found is None:
            raise NotFound(NO_DOMAIN)
        if await domains.has_active_messages(db, principal.project_id, found.domain):
            raise DomainInUse(f"Messages from {found.domain} are queued or being sent.")
        if not await domains.delete_domain(db, principal.project_id, domain_id):
            raise NotFound(NO_DOMAIN)
        await _audit(db, actor, principal, found, "deleted")


async def _audit(
    db: Db,
    actor: Actor,
    principal: Principal,
    domain: Domain,
    action: str,
    changes: Mapping[str, Any] | None = None,
) -> None:
    await audit.append(
        db,
        actor,
        project_id=principal.project_id,
        action=action,
        noun="domain",
        object_id=ids.encode_id("dom", domain.id),
        changes={"domain": domain.domain, **(changes or {})},
        now=utc_now(),
    )
