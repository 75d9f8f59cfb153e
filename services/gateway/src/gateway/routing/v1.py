"""``/v1/route``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from fastapi import APIRouter

from gateway.dependencies import RoutingRead, ServicesDep
from gateway.kit.json_route import JsonRoute
from gateway.kit.provider_reference import provider_reference
from gateway.kit.v1_errors import errors_of
from gateway.routing import service
from gateway.routing.v1_schemas import (
    DecisionResponse,
    DryRunRequest,
    RehearsalResponse,
    RehearseRequest,
    ShareResponse,
    serialize_decision,
)
from sluice.runtime.clock import utc_now
from sluice.store.config_cache import ConfigCache

router = APIRouter(prefix="/v1/route", tags=["routing"], route_class=JsonRoute)


@router.post("/dry-run", responses=errors_of())
async def dry_run(body: DryRunRequest, principal: RoutingRead, services: ServicesDep) -> DecisionResponse:
    """The provider that would be selected now for such a message, and why. Nothing is sent."""
    decision = service.dry_run(
        services,
        principal,
        channel=body.channel,
        recipient=body.to or "",
        delivery_class=body.delivery_class,
        preferred_provider=body.preferred_provider,
        now=utc_now(),
        order=body.order,
    )
    return serialize_decision(decision, services.config)


@router.post("/rehearse", responses=errors_of())
async def rehearse_order(body: RehearseRequest, principal: RoutingRead, services: ServicesDep) -> RehearsalResponse:
    """The effect of an order before it is saved: which provider would be first for the recent deliveries.

    Nothing is sent. With a test key the recent test messages are counted, as if they were live ones.
    """
    found = await service.rehearse(
        services,
        principal,
        channel=body.channel,
        order=body.order,
        within=timedelta(minutes=body.minutes),
        now=utc_now(),
    )
    return RehearsalResponse(
        deliveries=found.deliveries,
        complete=found.is_complete,
        current=_shares(found.current, services.config),
        proposed=_shares(found.proposed, services.config),
    )


def _shares(numbers: Mapping[UUID | None, int], config: ConfigCache) -> list[ShareResponse]:
    """The largest share first."""
    ordered = sorted(numbers.items(), key=lambda one: (-one[1], str(one[0])))
    return [
        ShareResponse(provider=None if id_ is None else provider_reference(id_, config), deliveries=number)
        for id_, number in ordered
    ]
