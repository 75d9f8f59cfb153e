"""The bodies of ``/v1/route``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gateway.kit.fields import Short, Timestamp
from gateway.kit.provider_reference import ProviderReference, provider_reference
from gateway.kit.responses import rfc3339
from sluice.model.message import Channel, DeliveryClass
from sluice.model.routing_policy import RoutingPolicy
from sluice.store.config_cache import ConfigCache


class DryRunRequest(BaseModel):
    """A message that is not sent. ``to``: one recipient; its country or mail domain may have a health of its own."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"channel": "sms", "to": "+4915112345678"}},
    )

    channel: Channel
    to: Short | None = None
    delivery_class: DeliveryClass = Field(DeliveryClass.STANDARD, alias="class")
    preferred_provider: Short | None = None
    order: Annotated[
        list[Short] | None,
        Field(max_length=1000, description="Ids of providers in an order that is not saved; the others follow."),
    ] = None


class RehearseRequest(BaseModel):
    """An order of a channel's providers that is not saved. Those that are not named follow in their stored order."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"channel": "email", "order": []}},
    )

    channel: Channel
    order: Annotated[list[Short], Field(max_length=1000)]
    minutes: Annotated[int, Field(ge=1, le=1440, strict=True)] = 60


class ShareResponse(BaseModel):
    """How many deliveries a provider would get first. ``provider``: null for those that would have to wait."""

    provider: ProviderReference | None
    deliveries: int


class RehearsalResponse(BaseModel):
    """What the stored order and the proposed one would make of recent deliveries now, with the health of now.

    ``complete``: false if the range has more than the 5,000 newest deliveries, which are the ones that count.
    """

    deliveries: int
    complete: bool
    current: list[ShareResponse]
    proposed: list[ShareResponse]


class EvidenceResponse(BaseModel):
    """What is known of a provider. ``attempts``: recent ones, each with the weight of its age."""

    status: str
    error_rate: float
    attempts: float
    reason: str | None = None


class CandidateResponse(BaseModel):
    """A provider among which is selected. ``excluded``: why another one is; null for the selected one."""

    provider: ProviderReference
    priority: int
    weight: float | None = None
    price: float | None = None
    excluded: str | None = None
    evidence: EvidenceResponse | None = None


class DecisionResponse(BaseModel):
    """A routing decision. ``until``: of a deferred one, when a provider may be called again.

    ``policy``: null with a test key, whose messages go to the sandbox.
    """

    decision: Literal["selected", "deferred", "exhausted"]
    policy: RoutingPolicy | None
    destination: str | None
    provider: ProviderReference | None
    reason: str | None
    until: Timestamp | None
    candidates: list[CandidateResponse]


def serialize_decision(decision: Mapping[str, Any], config: ConfigCache) -> DecisionResponse:
    """A decision of :func:`sluice.routing.decision.describe_decision` with the names of the providers."""
    chosen, until = decision.get("provider"), decision.get("until")
    return DecisionResponse(
        decision=decision["decision"],
        policy=decision.get("policy"),
        destination=decision.get("destination"),
        provider=None if chosen is None else provider_reference(UUID(chosen), config),
        reason=decision.get("reason"),
        until=None if until is None else rfc3339(datetime.fromisoformat(until)),
        candidates=[
            CandidateResponse.model_validate(
                {
                    "provider": provider_reference(UUID(one["id"]), config),
                    "priority": one["priority"],
                    "weight": one.get("weight"),
                    "price": one.get("price"),
                    "excluded": one.get("excluded"),
                    "evidence": one.get("evidence"),
                }
            )
            for one in decision["candidates"]
        ],
    )
