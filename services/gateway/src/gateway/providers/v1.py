"""``/v1/providers``."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request

from gateway.dependencies import ProvidersRead, ProvidersWrite, ServicesDep
from gateway.errors import NotFound, TooManyRequests, VersionConflict
from gateway.kit.json_route import JsonRoute
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.projects.v1_schemas import DeletedResponse
from gateway.providers import service
from gateway.providers.credentials import receipt_url, show_credentials
from gateway.providers.v1_schemas import (
    CreateProviderRequest,
    HealthResponse,
    ProviderListResponse,
    ProviderResponse,
    ProviderSettings,
    ReorderProvidersRequest,
    TestMessageRequest,
    TestMessageResponse,
    UpdateProviderRequest,
)
from gateway.services import Services
from sluice.bus.messages import ProviderHealth
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.outcome import Accepted, outcome_name
from sluice.store.providers import ProviderView

router = APIRouter(prefix="/v1/providers", tags=["providers"], route_class=JsonRoute)


@router.get("", responses=errors_of())
async def list_providers(
    principal: ProvidersRead, services: ServicesDep, channel: Channel | None = None
) -> ProviderListResponse:
    """The providers of the project in routing order, each with its live health."""
    views = await service.list_views(services, principal, channel=channel)
    return ProviderListResponse(data=[_serialize(view, services) for view in views])


@router.post("", status_code=201, responses=errors_of(TooManyRequests))
async def create_provider(
    body: CreateProviderRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ProviderResponse:
    """Add a provider. It is used for messages within a second."""
    actor = services.accounts.access.actor(request, principal)
    return _serialize(await service.create(services, principal, body, actor), services)


@router.post("/reorder", responses=errors_of())
async def reorder_providers(
    body: ReorderProvidersRequest, request: Request, principal: ProvidersWrite, services: ServicesDep
) -> ProviderListResponse:
    """Set the priorities of a channel's providers: the first id is tried first."""
    actor = services.accounts.access.actor(request, principal)
    views = await service.reorder(services, principal, body.channel, body.provider_ids, actor)
    return ProviderListResponse(data=[_serialize(view, services) for view in views])


@router.get("/{provider_id}", responses=errors_of())
async def get_provider(provider_id: str, principal: ProvidersRead, services: ServicesDep) -> ProviderResponse:
    """One provider."""
    return _serialize(await service.find(services, principal, _read_id(provider_id)), services)


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
    row, access = view.row, services.providers
    return ProviderResponse(
        id=ids.encode_id("prv", row.id),
        package_name=row.package,
        name=row.name,
        channel=row.channel,
        priority=row.priority,
        position=view.position,
        enabled=row.enabled,
        credentials=show_credentials(row, services.cipher),
        settings=ProviderSettings.model_validate(dict(row.settings)),
        health=_health(services.health.get(row.id)),
        receipt_url=receipt_url(row, services.cipher, access.public_url),
        version=row.version,
        created_at=rfc3339(view.created_at),
        updated_at=rfc3339(view.updated_at),
    )


def _health(health: ProviderHealth | None) -> HealthResponse:
    if health is None:
        return HealthResponse(
            status="healthy",
            reason="",
            error_rate=0.0,
            samples=0.0,
            probe_at=None,
            suspended_until=None,
            updated_at=None,
        )
    return HealthResponse(
        status=health.status,
        reason=health.reason,
        error_rate=health.error_rate,
        samples=health.effective_samples,
        probe_at=None if health.probe_at is None else rfc3339(health.probe_at),
        suspended_until=None if health.suspended_until is None else rfc3339(health.suspended_until),
        updated_at=rfc3339(health.updated_at),
    )
