"""The audit log of a project, for every API."""

from __future__ import annotations

from uuid import UUID

from gateway.auth.principal import Principal
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.store import audit
from sluice.store.audit import AuditEntry


async def list_entries(
    services: Services,
    principal: Principal,
    *,
    noun: str | None,
    object_id: str | None,
    limit: int,
    before: UUID | None,
) -> list[AuditEntry]:
    """The entries of the principal's project, newest first; of one noun and object if named.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await audit.list_entries(
            db, principal.project_id, noun=noun, object_id=object_id, limit=limit, before=before
        )
