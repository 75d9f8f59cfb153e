"""Incidents of a project, for every API."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from gateway.auth.principal import Principal
from gateway.errors import NotFound, ValidationFailed
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model import ids
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.store import audit, incident_list, provider_health
from sluice.store.audit import Actor
from sluice.store.db import Db
from sluice.store.incident_list import Incident, Note
from sluice.store.incidents import SEARCHED_BEFORE
from sluice.store.provider_health import HealthChange

NO_INCIDENT = "The project has no such incident."


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident with the notes on it, and the changes of its providers' health meanwhile."""

    incident: Incident
    notes: list[Note]
    changes: list[HealthChange]


async def list_incidents(
    services: Services,
    principal: Principal,
    *,
    is_open: bool | None,
    channel: Channel | None,
    limit: int,
    before: UUID | None,
) -> list[Incident]:
    """The incidents of the principal's project, newest first.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await incident_list.list_incidents(
            db, principal.project_id, is_open=is_open, channel=channel, limit=limit, before=before
        )


async def find(services: Services, principal: Principal, incident_id: UUID) -> IncidentView:
    """One incident of the principal's project.

    Raises:
        NotFound: the project has none with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await _view(db, principal, incident_id)


async def _find(db: Db, principal: Principal, incident_id: UUID) -> Incident:
    found = await incident_list.list_incidents(db, principal.project_id, incident_id=incident_id, limit=1)
    if not found:
        raise NotFound(NO_INCIDENT)
    return found[0]


async def _view(db: Db, principal: Principal, incident_id: UUID) -> IncidentView:
    incident = await _find(db, principal, incident_id)
    notes = await incident_list.list_notes(db, principal.project_id, incident_id)
    changes = await provider_health.list_changes(
        db,
        [one.provider_id for one in incident.providers],
        since=incident.opened_at - SEARCHED_BEFORE,
        until=utc_now() if incident.resolved_at is None else incident.resolved_at,
    )
    return IncidentView(incident, notes, changes)


async def acknowledge(services: Services, principal: Principal, incident_id: UUID, actor: Actor) -> IncidentView:
    """Write who looks after an incident. The first stays: a repeat changes nothing.

    Raises:
        NotFound: the project has none with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await _find(db, principal, incident_id)
        now = utc_now()
        if await incident_list.acknowledge(db, principal.project_id, incident_id, actor, now=now):
            await audit.append(
                db,
                actor,
                project_id=principal.project_id,
                action="acknowledged",
                noun="incident",
                object_id=ids.encode_id("inc", incident_id),
                now=now,
            )
        return await _view(db, principal, incident_id)


async def add_note(services: Services, principal: Principal, incident_id: UUID, text: str, actor: Actor) -> Note:
    """Add a note to an incident, open or resolved.

    Raises:
        NotFound: the project has none with this id.
        ValidationFailed: it has as many notes as an incident may have.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await _find(db, principal, incident_id)
        note = await incident_list.add_note(db, principal.project_id, incident_id, actor, text, now=utc_now())
    if note is None:
        raise ValidationFailed(f"An incident has at most {incident_list.MAX_NOTES} notes.")
    return note
