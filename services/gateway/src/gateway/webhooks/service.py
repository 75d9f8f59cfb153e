"""Webhooks of a project, for every API. The event-worker sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from gateway.auth.principal import Principal
from gateway.errors import NotFound, ValidationFailed, WebhookDisabled
from gateway.kit.addresses import check_hosts, host_of
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model import ids
from sluice.model.webhook_secret import new_secret, secret_text
from sluice.model.webhooks import WebhookStatus, WebhookType
from sluice.runtime.clock import utc_now
from sluice.store import audit, webhook_deliveries, webhooks
from sluice.store.audit import Actor
from sluice.store.db import Db
from sluice.store.webhook_deliveries import Replayed, WebhookDelivery
from sluice.store.webhooks import Endpoint, EndpointSettings

NO_WEBHOOK = "The project has no such webhook."
NO_DELIVERY = "The webhook has no such delivery."
MAX_ENDPOINTS = 50  # of a project's test or live messages
REPLAY_STEP = 1000  # deliveries that one call makes due


async def create(
    services: Services, principal: Principal, settings: EndpointSettings, actor: Actor
) -> tuple[Endpoint, str]:
    """Create an endpoint: it, and its secret, which is shown once.

    Raises:
        ValidationFailed: the project has too many endpoints, or the host of this one may not be dialled.
        Unavailable: PostgreSQL does not answer.
    """
    await check_hosts(services.outgoing, {"url": host_of(settings.url)})
    now, secret = utc_now(), new_secret()
    async with transaction(services.pool, principal.project_id) as db:
        endpoint = await webhooks.create_endpoint(db, principal.scope, settings, limit=MAX_ENDPOINTS, now=now)
        if endpoint is None:
            raise ValidationFailed(f"A project has at most {MAX_ENDPOINTS} webhooks.")
        await webhooks.add_secret(db, services.cipher, endpoint, secret, older_expire_at=now)
        await _log(db, actor, endpoint, "created", {"url": settings.url, "events": list(settings.events)})
    return endpoint, secret_text(secret)


async def list_of(services: Services, principal: Principal, *, limit: int, before: UUID | None) -> list[Endpoint]:
    """The endpoints of the principal's scope, newest first.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await webhooks.list_endpoints(db, principal.scope, limit=limit, before=before)


async def find(services: Services, principal: Principal, endpoint_id: UUID) -> Endpoint:
    """One endpoint.

    Raises:
        NotFound: the scope has none with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await _find(db, principal, endpoint_id)


async def update(
    services: Services, principal: Principal, endpoint_id: UUID, changes: Mapping[str, Any], actor: Actor
) -> Endpoint:
    """Change fields of an endpoint's settings.

    Raises:
        NotFound: the scope has none with this id.
        ValidationFailed: the host may not be dialled.
        Unavailable: PostgreSQL does not answer.
    """
    if "url" in changes:
        await check_hosts(services.outgoing, {"url": host_of(changes["url"])})
    async with transaction(services.pool, principal.project_id) as db:
        updated = await webhooks.update_endpoint(db, principal.scope, endpoint_id, changes, now=utc_now())
        if updated is None:
            raise NotFound(NO_WEBHOOK)
        before, after = updated
        changed = {name: value for name, value in changes.items() if getattr(before.settings, name) != value}
        if changed or before.disabled_reason is not None:
            await _log(db, actor, after, "updated", changed)
    return after


async def delete(services: Services, principal: Principal, endpoint_id: UUID, actor: Actor) -> None:
    """Delete an endpoint; its pending deliveries are discarded.

    Raises:
        NotFound: the scope has none with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        endpoint = await webhooks.delete_endpoint(db, principal.scope, endpoint_id)
        if endpoint is None:
            raise NotFound(NO_WEBHOOK)
        await _log(db, actor, endpoint, "deleted", {"url": endpoint.settings.url})


async def rotate_secret(
    services: Services, principal: Principal, endpoint_id: UUID, *, grace: timedelta, actor: Actor
) -> tuple[str, datetime]:
    """Add a secret: its text, which is shown once, and until when the one before it is valid.

    Raises:
        NotFound: the scope has no endpoint with this id.
        Unavailable: PostgreSQL does not answer.
    """
    secret, ends = new_secret(), utc_now() + grace
    async with transaction(services.pool, principal.project_id) as db:
        endpoint = await _find(db, principal, endpoint_id)
        version = await webhooks.add_secret(db, services.cipher, endpoint, secret, older_expire_at=ends)
        await _log(db, actor, endpoint, "secret_rotated", {"secret_version": version})
    return secret_text(secret), ends


async def send_test(
    services: Services, principal: Principal, endpoint_id: UUID, type_: WebhookType | None
) -> WebhookDelivery:
    """Make a test event due now; by default of the first type that the endpoint asks for.

    Raises:
        NotFound: the scope has no endpoint with this id.
        WebhookDisabled: the endpoint is disabled.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        endpoint = await _find_enabled(db, principal, endpoint_id)
        type_ = type_ or WebhookType(endpoint.settings.events[0])
        added = await webhook_deliveries.add_test(db, endpoint, type_, now=utc_now())
        return await _find_delivery(db, endpoint_id, added)


async def list_deliveries(
    services: Services,
    principal: Principal,
    endpoint_id: UUID,
    *,
    status: WebhookStatus | None,
    limit: int,
    before: UUID | None,
) -> list[WebhookDelivery]:
    """The deliveries to an endpoint, newest first, with their attempts.

    Raises:
        NotFound: the scope has no endpoint with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await _find(db, principal, endpoint_id)
        return await webhook_deliveries.list_deliveries(db, endpoint_id, status=status, limit=limit, before=before)


async def find_delivery(
    services: Services, principal: Principal, endpoint_id: UUID, webhook_delivery_id: UUID
) -> WebhookDelivery:
    """One delivery with its attempts.

    Raises:
        NotFound: the scope has no endpoint, or the endpoint no delivery, with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await _find(db, principal, endpoint_id)
        return await _find_delivery(db, endpoint_id, webhook_delivery_id)


async def replay(
    services: Services, principal: Principal, endpoint_id: UUID, webhook_delivery_id: UUID
) -> WebhookDelivery:
    """Make one delivery due now, whatever became of it; one whose attempt is under way is left alone.

    Raises:
        NotFound: the scope has no endpoint, or the endpoint no delivery, with this id.
        WebhookDisabled: the endpoint is disabled.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        await _find_enabled(db, principal, endpoint_id)
        if not await webhook_deliveries.replay(db, endpoint_id, webhook_delivery_id, now=utc_now()):
            raise NotFound(NO_DELIVERY)
        return await _find_delivery(db, endpoint_id, webhook_delivery_id)


async def replay_range(
    services: Services,
    principal: Principal,
    endpoint_id: UUID,
    statuses: Sequence[WebhookStatus],
    *,
    since: datetime,
    until: datetime | None,
    after: UUID | None,
) -> Replayed:
    """Make the deliveries of a time range due now, up to :data:`REPLAY_STEP` of them.

    Raises:
        NotFound: the scope has no endpoint with this id.
        WebhookDisabled: the endpoint is disabled.
        Unavailable: PostgreSQL does not answer.
    """
    now = utc_now()
    async with transaction(services.pool, principal.project_id) as db:
        await _find_enabled(db, principal, endpoint_id)
        return await webhook_deliveries.replay_range(
            db,
            endpoint_id,
            statuses,
            since=since,
            until=now if until is None else until,
            after=after,
            limit=REPLAY_STEP,
            now=now,
        )


async def _find(db: Db, principal: Principal, endpoint_id: UUID) -> Endpoint:
    endpoint = await webhooks.find_endpoint(db, principal.scope, endpoint_id)
    if endpoint is None:
        raise NotFound(NO_WEBHOOK)
    return endpoint


async def _find_delivery(db: Db, endpoint_id: UUID, webhook_delivery_id: UUID) -> WebhookDelivery:
    found = await webhook_deliveries.find_delivery(db, endpoint_id, webhook_delivery_id)
    if found is None:
        raise NotFound(NO_DELIVERY)
    return found


async def _find_enabled(db: Db, principal: Principal, endpoint_id: UUID) -> Endpoint:
    endpoint = await _find(db, principal, endpoint_id)
    if not endpoint.settings.enabled:
        raise WebhookDisabled("The webhook is disabled: enable it first.")
    return endpoint


async def _log(db: Db, actor: Actor, endpoint: Endpoint, action: str, changes: Mapping[str, Any]) -> None:
    await audit.append(
        db,
        actor,
        project_id=endpoint.scope.project_id,
        action=action,
        noun="webhook",
        object_id=ids.encode_id("whk", endpoint.id),
        changes=changes,
        now=utc_now(),
    )
