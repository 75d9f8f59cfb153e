"""``/v1/route``."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.dependencies import RoutingRead, ServicesDep
from gateway.kit.json_route import JsonRoute
from gateway.kit.v1_errors import errors_of
from gateway.routing import service
from gateway.routing.v1_schemas import DecisionResponse, DryRunRequest, serialize_decision
from sluice.runtime.clock import utc_now

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
    )
    return serialize_decision(decision, services.config)
