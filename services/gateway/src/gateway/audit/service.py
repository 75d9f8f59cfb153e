"""The audit log of a project, for every API."""

from __future__ import annotations

from uuid import UUID

from gateway.auth.principal import Principal
from gateway.kit.database import database_errors
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
    with database_errors():
        return await audit.list_entries(
            services.pool, principal.project_id, noun=noun, object_id=object_id, limit=limit, before=before
        )
