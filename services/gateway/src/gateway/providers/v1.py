"""``/v1/providers``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from gateway.dependencies import ProvidersRead, ProvidersWrite, ServicesDep
from gateway.errors import LimitReached, NotFound, NotProbeable, TooManyRequests, VersionConflict
from gateway.kit.fields import Time
from gateway.kit.json_route import JsonRoute
from gateway.kit.provider_reference import provider_reference
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.projects.v1_schemas import DeletedResponse
from gateway.providers import service
from gateway.providers.credentials import show_credentials
from gateway.providers.v1_health import serialize_health, serialize_receipts
from gateway.providers.v1_schemas import (
    CreateProviderRequest,
    HealthHistoryResponse,
    HealthStepResponse,
    ProviderHealthResponse,
    ProviderListResponse,
    ProviderResponse,
    ProviderSettings,
    ReorderProvidersRequest,
    StatusChangeResponse,
    TestMessageRequest,
    TestMessageResponse,
    UpdateProviderRequest,
)
from gateway.services import Services
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.outcome import Accepted, outcome_name
from sluice.runtime.clock import utc_now
from sluice.store.providers import ProviderView

router = APIRouter(prefix="/v1/providers", tags=["providers"], route_class=JsonRoute)


@router.get("", responses=errors_of())
async def list_providers(
    principal: ProvidersRead, services: ServicesDep, channel: Channel | None = None
) -> ProviderListResponse:
    """The providers of the project in routing order, each with its live health."""
    views = await service.list_views(services, principal, channel=channel)
    return ProviderListResponse(data=[_serialize(view, services) for view in views])


@router.post("", status_code=201, responses=errors_of(LimitReached, TooManyRequests))
async def create_provider(
    body: CreateProviderRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ProviderResponse:
    """Add a provider. It is used for messages within a second."""
    actor = services.accounts.access.actor(request, principal)
    return _serialize(await service.create(services, principal, body, actor), services)


@router.post("/reorder", responses=errors_of(VersionConflict))
async def reorder_providers(
    body: ReorderProvidersRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ProviderListResponse:
    """Set the priorities of a channel's providers: the first id is tried first."""
    actor = services.accounts.access.actor(request, principal)
    views = await service.reorder(
        services, principal, body.channel, body.provider_ids, actor, expected=body.expected_ids
    )
    return ProviderListResponse(data=[_serialize(view, services) for view in views])


@router.get("/{provider_id}", responses=errors_of())
async def get_provider(provider_id: str, principal: ProvidersRead, services: ServicesDep) -> ProviderResponse:
    """One provider."""
    return _serialize(await service.find(services, principal, _read_id(provider_id)), services)


@router.get("/{provider_id}/health", responses=errors_of())
async def get_provider_health(
    provider_id: str, principal: ProvidersRead, services: ServicesDep
) -> ProviderHealthResponse:
    """Why its status is what it is, how it comes back, and whether its receipts still come."""
    view, receipts, changes = await service.find_health(services, principal, _read_id(provider_id))
    now = utc_now()
    return ProviderHealthResponse(
        provider=provider_reference(view.row.id, services.config),
        health=serialize_health(services.health.get(view.row.id), now),
        receipts=serialize_receipts(receipts),
        changes=[
            StatusChangeResponse(
                at=rfc3339(one.at), status=one.status, reason=one.reason, error_rate=round(one.error_rate, 4)
            )
            for one in changes
        ],
    )


@router.get("/{provider_id}/health/history", responses=errors_of())
async def get_provider_health_history(
    provider_id: str,
    principal: ProvidersRead,
    services: ServicesDep,
    since: Annotated[Time | None, Query(description="By default a day ago.")] = None,
    until: Annotated[Time | None, Query(description="Exclusive; by default now.")] = None,
    step_s: Annotated[int, Query(ge=300, le=86_400, multiple_of=300, description="Seconds; a multiple of 300.")] = 300,
) -> HealthHistoryResponse:
    """The health of the provider by steps of time, for 31 days back; at most 2,000 steps."""
    found = await service.health_history(
        services, principal, _read_id(provider_id), since=since, until=until, step=timedelta(seconds=step_s)
    )
    return HealthHistoryResponse(
        step_s=step_s,
        data=[
            HealthStepResponse(
                at=rfc3339(one.at),
                status=one.status,
                error_rate=round(one.error_rate, 4),
                samples=round(one.samples, 1),
            )
            for one in found
        ],
    )


@router.patch("/{provider_id}", responses=errors_of(VersionConflict, TooManyRequests))
async def update_provider(
    provider_id: str, body: UpdateProviderRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ProviderResponse:
    """Change a provider. New credentials count within a second; calls under way keep the earlier ones."""
    actor = services.accounts.access.actor(request, principal)
    return _serialize(await service.update(services, principal, _read_id(provider_id), body, actor), services)


@router.delete("/{provider_id}", responses=errors_of())
async def delete_provider(
    provider_id: str, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> DeletedResponse:
    """Remove a provider. Messages under way go on at the next one; receipts of what it sent still count."""
    found = _read_id(provider_id)
    await service.delete(services, principal, found, services.accounts.access.actor(request, principal))
    return DeletedResponse(id=ids.encode_id("prv", found))


@router.post("/{provider_id}/probe", status_code=202, responses=errors_of(NotProbeable))
async def probe_provider(
    provider_id: str, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ProviderResponse:
    """Probe a provider that is not healthy with the next message, without waiting for the time of its next probe.

    Nothing else is sent. A suspension after refused credentials ends; a pause that the provider asked for does not.
    """
    actor = services.accounts.access.actor(request, principal)
    return _serialize(await service.probe(services, principal, _read_id(provider_id), actor), services)


@router.post("/{provider_id}/test", responses=errors_of(TooManyRequests))
async def test_provider(
    provider_id: str, body: TestMessageRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> TestMessageResponse:
    """Send one real message through just this provider, enabled or not, and return what the provider answered.

    The message is not stored, has no history, and does not move the provider's health.
    """
    actor = services.accounts.access.actor(request, principal)
    result = await service.test(services, principal, _read_id(provider_id), body, actor, default_sender=None)
    outcome = result.outcome
    return TestMessageResponse(
        outcome=outcome_name(outcome),
        detail=outcome.detail,
        provider_message_id=outcome.provider_message_id if isinstance(outcome, Accepted) else None,
        duration_ms=round(result.duration * 1000),
    )


def _read_id(text: str) -> UUID:
    return read_id("prv", text, NotFound(service.NO_PROVIDER))


def _serialize(view: ProviderView, services: Services) -> ProviderResponse:
    row = view.row
    shown = show_credentials(row, services.cipher, services.providers.public_url)
    return ProviderResponse(
        id=ids.encode_id("prv", row.id),
        package_name=row.package,
        name=row.name,
        channel=row.channel,
        priority=row.priority,
        position=view.position,
        enabled=row.enabled,
        credentials=shown.credentials,
        settings=ProviderSettings.model_validate(dict(row.settings)),
        health=serialize_health(services.health.get(row.id), utc_now()),
        receipt_url=shown.receipt_url,
        version=row.version,
        created_at=rfc3339(view.created_at),
        updated_at=rfc3339(view.updated_at),
    )
