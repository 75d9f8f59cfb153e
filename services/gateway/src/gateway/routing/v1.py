"""``/v1/route``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter

from gateway.dependencies import RoutingRead, ServicesDep
from gateway.kit.json_route import JsonRoute
from gateway.kit.v1_errors import errors_of
from gateway.messages.v1 import provider_reference
from gateway.routing import service
from gateway.routing.v1_schemas import CandidateResponse, DecisionResponse, DryRunRequest
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
    )
    return serialize_decision(decision, services.config)


def serialize_decision(decision: Mapping[str, Any], config: ConfigCache) -> DecisionResponse:
    """A decision of :func:`sluice.routing.decision.describe_decision` with the names of the providers."""
    chosen = decision.get("provider")
    return DecisionResponse(
        decision=decision["decision"],
        policy=decision.get("policy"),
        destination=decision.get("destination"),
        provider=None if chosen is None else provider_reference(UUID(chosen), config),
        reason=decision.get("reason"),
        until=decision.get("until"),
        candidates=[
            CandidateResponse.model_validate(
                {
                    "provider": provider_reference(UUID(one["id"]), config),
                    "priority": one["priority"],
                    "excluded": one.get("excluded"),
                    "evidence": one.get("evidence"),
                }
            )
            for one in decision["candidates"]
        ],
    )
