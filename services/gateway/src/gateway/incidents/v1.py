"""``/v1/incidents``."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request

from gateway.dependencies import IncidentsRead, IncidentsWrite, ServicesDep
from gateway.errors import NotFound
from gateway.incidents import service
from gateway.incidents.service import IncidentView
from gateway.incidents.v1_schemas import (
    AcknowledgementResponse,
    HealthChangeResponse,
    IncidentDetailResponse,
    IncidentNumbersResponse,
    IncidentProviderResponse,
    IncidentResponse,
    IncidentStatus,
    NoteRequest,
    NoteResponse,
    WithoutProviderResponse,
)
from gateway.kit.actor import ActorResponse, actor_response
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.provider_reference import provider_reference
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from sluice.model import ids
from sluice.model.incidents import Ending
from sluice.model.message import Channel
from sluice.store.config_cache import ConfigCache
from sluice.store.incident_list import By, Incident, Note
from sluice.store.provider_health import HealthChange

router = APIRouter(prefix="/v1/incidents", tags=["incidents"], route_class=JsonRoute)


@router.get("", responses=errors_of())
async def list_incidents(
    principal: IncidentsRead,
    page: PageDep,
    services: ServicesDep,
    status: IncidentStatus | None = None,
    channel: Channel | None = None,
) -> Page[IncidentResponse]:
    """The outages of the project's providers, newest first, each with what became of the messages that it touched.

    One opens when a provider turns unhealthy or a channel has none left; one at most is open for each channel. It ends
    when each of its providers has its full share of the traffic again, or is disabled or removed.
    """
    rows = await service.list_incidents(
        services,
        principal,
        is_open=None if status is None else status is IncidentStatus.OPEN,
        channel=channel,
        limit=page.fetch,
        before=page.before,
    )
    return page.page(rows, lambda row: row.id, lambda row: IncidentResponse(**_fields(row, services.config)))


@router.get("/{incident_id}", responses=errors_of())
async def get_incident(incident_id: str, principal: IncidentsRead, services: ServicesDep) -> IncidentDetailResponse:
    """One incident."""
    return _detail(await service.find(services, principal, _read(incident_id)), services.config)


@router.post("/{incident_id}/acknowledge", responses=errors_of())
async def acknowledge_incident(
    incident_id: str, request: Request, principal: IncidentsWrite, services: ServicesDep
) -> IncidentDetailResponse:
    """Say that you look after it. The first acknowledgement stays."""
    actor = services.accounts.access.actor(request, principal)
    return _detail(await service.acknowledge(services, principal, _read(incident_id), actor), services.config)


@router.post("/{incident_id}/notes", status_code=201, responses=errors_of())
async def add_incident_note(
    incident_id: str, body: NoteRequest, request: Request, principal: IncidentsWrite, services: ServicesDep
) -> NoteResponse:
    """Add a note."""
    actor = services.accounts.access.actor(request, principal)
    return _note(await service.add_note(services, principal, _read(incident_id), body.text, actor))


def _read(text: str) -> UUID:
    return read_id("inc", text, NotFound(service.NO_INCIDENT))


def _time(when: datetime | None) -> str | None:
    return None if when is None else rfc3339(when)


def _fields(incident: Incident, config: ConfigCache) -> dict[str, Any]:
    numbers, acknowledged = incident.numbers, incident.acknowledged
    return {
        "id": ids.encode_id("inc", incident.id),
        "channel": Channel(incident.channel),
        "status": IncidentStatus.OPEN if incident.resolved_at is None else IncidentStatus.RESOLVED,
        "opened_at": rfc3339(incident.opened_at),
        "resolved_at": _time(incident.resolved_at),
        "cause": incident.cause,
        "providers": [
            IncidentProviderResponse(
                provider=provider_reference(one.provider_id, config),
                reason=one.reason,
                since=rfc3339(one.began_at),
                ended_at=_time(one.ended_at),
                ending=None if one.ending is None else Ending(one.ending),
            )
            for one in incident.providers
        ],
        "without_provider": None
        if incident.none_left_at is None
        else WithoutProviderResponse(since=rfc3339(incident.none_left_at), until=_time(incident.none_left_until)),
        "numbers": IncidentNumbersResponse(
            touched=numbers.touched,
            masked=numbers.masked,
            late=numbers.late,
            failed=numbers.failed,
            unconfirmed=numbers.unconfirmed,
            possible_duplicates=numbers.doubled,
            waiting=numbers.waiting,
            counted_at=_time(numbers.counted_at),
        ),
        "acknowledged": None
        if acknowledged is None
        else AcknowledgementResponse(actor=_actor(acknowledged), at=rfc3339(acknowledged.at)),
    }


def _detail(view: IncidentView, config: ConfigCache) -> IncidentDetailResponse:
    return IncidentDetailResponse(
        **_fields(view.incident, config),
        notes=[_note(note) for note in view.notes],
        changes=[_change(change, config) for change in view.changes],
    )


def _note(note: Note) -> NoteResponse:
    return NoteResponse(
        id=ids.encode_id("inn", note.id), actor=_actor(note.by), text=note.text, created_at=rfc3339(note.by.at)
    )


def _change(change: HealthChange, config: ConfigCache) -> HealthChangeResponse:
    return HealthChangeResponse(
        provider=provider_reference(change.provider_id, config),
        at=rfc3339(change.at),
        status=change.status,
        reason=change.reason,
        error_rate=round(change.error_rate, 4),
    )


def _actor(by: By) -> ActorResponse:
    return actor_response(by.kind, by.id, by.name)
