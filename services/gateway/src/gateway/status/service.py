"""The state of the installation and what waits in a project, for every API."""

from __future__ import annotations

from gateway.auth.principal import Principal
from gateway.errors import Unavailable
from gateway.kit.transactions import transaction
from gateway.services import Services
from gateway.status.monitor import InstallationStatus
from sluice.runtime.clock import utc_now
from sluice.store import waiting
from sluice.store.waiting import Waiting


async def installation(services: Services) -> InstallationStatus:
    """The parts of the installation; one that does not answer is no error."""
    return await services.status.status()


async def waiting_in(services: Services, principal: Principal) -> list[Waiting] | None:
    """What waits in the principal's project, by channel; None while PostgreSQL does not answer."""
    try:
        async with transaction(services.pool, principal.project_id) as db:
            return await waiting.count(db, principal.scope, now=utc_now())
    except Unavailable:
        return None
