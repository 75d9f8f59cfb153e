"""The decision that the router would make for a message now, for every API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.auth.principal import Principal
from gateway.kit.preferred_provider import find_preferred
from gateway.services import Services
from sluice.bus.messages import DeliveryTask
from sluice.model.destination import destination_of
from sluice.model.ids import uuid7
from sluice.model.message import Channel, DeliveryClass
from sluice.routing.decision import SANDBOX_DECISION, decide, describe_decision
from sluice.routing.probe_budget import ProbeBudget


def dry_run(
    services: Services,
    principal: Principal,
    *,
    channel: Channel,
    recipient: str,
    delivery_class: DeliveryClass,
    preferred_provider: str | None,
    now: datetime,
) -> Mapping[str, Any]:
    """The routing decision for the first attempt of such a delivery, as :func:`describe_decision` describes it.

    Nothing is sent and no probe is counted. A probe that is in flight is known to its router only: here, each provider
    whose probe is due may be probed.

    Raises:
        ValidationFailed: the project has no such preferred provider for the channel.
    """
    preferred = find_preferred(services.config, principal.project_id, channel, preferred_provider)
    if principal.is_test:
        return SANDBOX_DECISION
    delivery_id = uuid7()
    task = DeliveryTask(
        delivery_id=delivery_id,
        message_id=delivery_id,
        project_id=principal.project_id,
        channel=channel,
        delivery_class=delivery_class,
        enqueued_at=now,
        expires_at=now,
        preferred_provider_id=preferred,
        destination=destination_of(channel, recipient),
    )
    selection, policy = decide(task, services.config, services.health, now, ProbeBudget().allow)
    return describe_decision(selection, policy, task.destination)
