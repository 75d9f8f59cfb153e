"""``/v1/webhooks``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from gateway.dependencies import ServicesDep, WebhooksRead, WebhooksWrite
from gateway.errors import NotFound, WebhookDisabled
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep, decode_cursor, encode_cursor
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.projects.v1_schemas import DeletedResponse
from gateway.webhooks import service
from gateway.webhooks.callback import callback_router
from gateway.webhooks.v1_schemas import (
    AttemptResponse,
    CreatedWebhookResponse,
    CreateWebhookRequest,
    ReplayRequest,
    ReplayResponse,
    RotatedSecretResponse,
    RotateSecretRequest,
    SendTestRequest,
    UpdateWebhookRequest,
    WebhookDeliveryResponse,
    WebhookResponse,
)
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.webhooks import WebhookStatus, WebhookType, event_id
from sluice.store.webhook_deliveries import Attempt, WebhookDelivery
from sluice.store.webhooks import Endpoint, EndpointSettings

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=JsonRoute)


@router.post("", status_code=201, responses=errors_of(), callbacks=callback_router.routes)
async def create_webhook(
    body: CreateWebhookRequest, request: Request, principal: WebhooksWrite, services: ServicesDep
) -> CreatedWebhookResponse:
    """Add an endpoint to which events are sent. Its signing secret is in this answer only.

    An endpoint that a test key adds gets the events of test messages, any other those of live ones.
    """
    settings = EndpointSettings(
        url=body.url,
        events=tuple(body.events),
        channels=tuple(body.channels),
        tags=tuple(body.tags),
        description=body.description,
        enabled=body.enabled,
    )
    actor = services.accounts.access.actor(request, principal)
    endpoint, secret = await service.create(services, principal, settings, actor)
    return CreatedWebhookResponse(**_serialize(endpoint).model_dump(), secret=secret)


@router.get("", responses=errors_of())
async def list_webhooks(principal: WebhooksRead, page: PageDep, services: ServicesDep) -> Page[WebhookResponse]:
    """The endpoints of the project, newest first."""
    rows = await service.list_of(services, principal, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, _serialize)


@router.get("/{webhook_id}", responses=errors_of())
async def get_webhook(webhook_id: str, principal: WebhooksRead, services: ServicesDep) -> WebhookResponse:
    """One endpoint."""
    return _serialize(await service.find(services, principal, _read(webhook_id)))


@router.patch("/{webhook_id}", responses=errors_of())
async def update_webhook(
    webhook_id: str, body: UpdateWebhookRequest, request: Request, principal: WebhooksWrite, services: ServicesDep
) -> WebhookResponse:
    """Change an endpoint, or enable one that was disabled."""
    changes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in body.model_dump(exclude_unset=True).items()
    }
    actor = services.accounts.access.actor(request, principal)
    return _serialize(await service.update(services, principal, _read(webhook_id), changes, actor))


@router.delete("/{webhook_id}", responses=errors_of())
async def delete_webhook(
    webhook_id: str, request: Request, principal: WebhooksWrite, services: ServicesDep
) -> DeletedResponse:
    """Remove an endpoint with its secrets. Pending deliveries are discarded."""
    found = _read(webhook_id)
    await service.delete(services, principal, found, services.accounts.access.actor(request, principal))
    return DeletedResponse(id=ids.encode_id("whk", found))


@router.post("/{webhook_id}/rotate", responses=errors_of())
async def rotate_webhook_secret(
    webhook_id: str,
    request: Request,
    principal: WebhooksWrite,
    services: ServicesDep,
    body: RotateSecretRequest | None = None,
) -> RotatedSecretResponse:
    """Make a new signing secret. For a grace, requests carry the signatures of both secrets."""
    found = _read(webhook_id)
    actor = services.accounts.access.actor(request, principal)
    grace = timedelta(seconds=(body or RotateSecretRequest()).grace_seconds)
    secret, ends = await service.rotate_secret(services, principal, found, grace=grace, actor=actor)
    return RotatedSecretResponse(id=ids.encode_id("whk", found), secret=secret, previous_valid_until=rfc3339(ends))


@router.post("/{webhook_id}/test", status_code=202, responses=errors_of(WebhookDisabled))
async def send_webhook_test(
    webhook_id: str, principal: WebhooksWrite, services: ServicesDep, body: SendTestRequest | None = None
) -> WebhookDeliveryResponse:
    """Send a test event now. Its attempt appears in the endpoint's deliveries; it is not repeated."""
    type_ = None if body is None else body.type
    return _serialize_delivery(await service.send_test(services, principal, _read(webhook_id), type_))


@router.get("/{webhook_id}/deliveries", responses=errors_of())
async def list_webhook_deliveries(
    webhook_id: str,
    principal: WebhooksRead,
    page: PageDep,
    services: ServicesDep,
    status: Annotated[WebhookStatus | None, Query(description="Only those with this status.")] = None,
) -> Page[WebhookDeliveryResponse]:
    """The events for an endpoint, newest first, each with its attempts."""
    rows = await service.list_deliveries(
        services, principal, _read(webhook_id), status=status, limit=page.fetch, before=page.before
    )
    return page.page(rows, lambda row: row.id, _serialize_delivery)


@router.get("/{webhook_id}/deliveries/{delivery_id}", responses=errors_of())
async def get_webhook_delivery(
    webhook_id: str, delivery_id: str, principal: WebhooksRead, services: ServicesDep
) -> WebhookDeliveryResponse:
    """One event for an endpoint, with its attempts."""
    found = await service.find_delivery(services, principal, _read(webhook_id), _read_delivery(delivery_id))
    return _serialize_delivery(found)


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay", status_code=202, responses=errors_of(WebhookDisabled))
async def replay_webhook_delivery(
    webhook_id: str, delivery_id: str, principal: WebhooksWrite, services: ServicesDep
) -> WebhookDeliveryResponse:
    """Send one event again now, with the same id, whatever became of it before."""
    found = await service.replay(services, principal, _read(webhook_id), _read_delivery(delivery_id))
    return _serialize_delivery(found)


@router.post("/{webhook_id}/replay", status_code=202, responses=errors_of(WebhookDisabled))
async def replay_webhook(
    webhook_id: str, body: ReplayRequest, principal: WebhooksWrite, services: ServicesDep
) -> ReplayResponse:
    """Send the events of a time range again, by default those that the endpoint missed; the oldest first.

    A call makes at most 1,000 of them due. Repeat it with `next_cursor` until that is null.
    """
    after = None if body.cursor is None else decode_cursor(body.cursor)
    replayed = await service.replay_range(
        services, principal, _read(webhook_id), body.statuses, since=body.since, until=body.until, after=after
    )
    return ReplayResponse(
        replayed=replayed.number, next_cursor=None if replayed.last is None else encode_cursor(replayed.last)
    )


def _read(text: str) -> UUID:
    return read_id("whk", text, NotFound(service.NO_WEBHOOK))


def _read_delivery(text: str) -> UUID:
    return read_id("whd", text, NotFound(service.NO_DELIVERY))


def _serialize(endpoint: Endpoint) -> WebhookResponse:
    settings = endpoint.settings
    return WebhookResponse(
        id=ids.encode_id("whk", endpoint.id),
        url=settings.url,
        events=[WebhookType(name) for name in settings.events],
        channels=[Channel(name) for name in settings.channels],
        tags=list(settings.tags),
        description=settings.description,
        enabled=settings.enabled,
        disabled_reason=endpoint.disabled_reason,
        failing_since=None if endpoint.failing_since is None else rfc3339(endpoint.failing_since),
        test=endpoint.scope.sandbox,
        created_at=rfc3339(endpoint.created_at),
        updated_at=rfc3339(endpoint.updated_at),
    )


def _serialize_delivery(delivery: WebhookDelivery) -> WebhookDeliveryResponse:
    return WebhookDeliveryResponse(
        id=ids.encode_id("whd", delivery.id),
        event_id=event_id(delivery.delivery_id, delivery.sequence),
        type=delivery.type,
        status=delivery.status,
        test=delivery.sequence == 0,
        attempts=[_serialize_attempt(attempt) for attempt in delivery.attempts],
        next_attempt_at=None if delivery.due_at is None else rfc3339(delivery.due_at),
        created_at=rfc3339(delivery.occurred_at),
        finished_at=None if delivery.finished_at is None else rfc3339(delivery.finished_at),
    )


def _serialize_attempt(attempt: Attempt) -> AttemptResponse:
    return AttemptResponse(
        number=attempt.number,
        started_at=rfc3339(attempt.started_at),
        duration_ms=attempt.duration_ms,
        status=attempt.status,
        error=attempt.error,
        answer=attempt.answer,
    )
