"""The decision that the router would make for a message now, for every API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from gateway.auth.principal import Principal
from gateway.kit.preferred_provider import find_preferred
from gateway.kit.transactions import transaction
from gateway.providers.service import named_providers
from gateway.services import Services
from sluice.bus.messages import DeliveryTask
from sluice.model.candidate import Candidate
from sluice.model.destination import destination_of
from sluice.model.ids import uuid7
from sluice.model.message import Channel, DeliveryClass
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing.decision import SANDBOX_DECISION, RoutingConfig, decide, describe_decision
from sluice.routing.probe_budget import ProbeBudget
from sluice.routing.selection import Selected
from sluice.store import routing_traffic
from sluice.store.config_cache import ConfigCache

_MAX_REHEARSED = 5_000  # deliveries


class _InOrder:
    """The configuration with another order of one channel's providers. Those that are not named follow."""

    def __init__(self, config: ConfigCache, order: Sequence[UUID]) -> None:
        self._config = config
        self._order = {provider_id: place for place, provider_id in enumerate(order)}

    def candidates(self, project_id: UUID, channel: Channel) -> Sequence[Candidate]:
        """The enabled providers, with the priorities that this order would give them."""
        known = self._config.candidates(project_id, channel)
        ordered = sorted(known, key=lambda one: self._order.get(one.id, len(self._order)))
        return [one._replace(priority=place) for place, one in enumerate(ordered, 1)]

    def routing_policy(self, project_id: UUID) -> RoutingPolicy:
        """The policy of the project, which stays."""
        return self._config.routing_policy(project_id)


def _config(services: Services, principal: Principal, channel: Channel, order: Sequence[str] | None) -> RoutingConfig:
    """The configuration, in an order that is not saved if one is given.

    Raises:
        ValidationFailed: an id is repeated, or not of a provider of the project and the channel.
    """
    if order is None:
        return services.config
    known = [
        row.id
        for row in services.config.providers.values()
        if (row.project_id, row.channel) == (principal.project_id, channel) and not row.deleted
    ]
    return _InOrder(services.config, named_providers(order, known, channel, field="order"))


def dry_run(
    services: Services,
    principal: Principal,
    *,
    channel: Channel,
    recipient: str,
    delivery_class: DeliveryClass,
    preferred_provider: str | None,
    now: datetime,
    order: Sequence[str] | None = None,
) -> Mapping[str, Any]:
    """The routing decision for the first attempt of such a delivery, as :func:`describe_decision` describes it.

    Nothing is sent and no probe is counted. A probe that is in flight is known to its router only: here, each provider
    whose probe is due may be probed. ``order``: ids of providers as they would stand, instead of the stored order.

    Raises:
        ValidationFailed: the project has no such preferred provider for the channel, or no such provider of the order.
    """
    preferred = find_preferred(services.config, principal.project_id, channel, preferred_provider)
    config = _config(services, principal, channel, order)
    if principal.is_test:
        return SANDBOX_DECISION
    traffic = Traffic(delivery_class, preferred, destination_of(channel, recipient))
    task = _task(principal, channel, traffic, now)
    selection, policy = decide(task, config, services.health, now, ProbeBudget().allow)
    return describe_decision(selection, policy, task.destination)


class Traffic(NamedTuple):
    """What the decision for a first attempt depends on, apart from the moment."""

    delivery_class: DeliveryClass
    preferred_provider_id: UUID | None
    destination: str


def _task(principal: Principal, channel: Channel, traffic: Traffic, now: datetime) -> DeliveryTask:
    delivery_id = uuid7()
    return DeliveryTask(
        delivery_id=delivery_id,
        message_id=delivery_id,
        project_id=principal.project_id,
        channel=channel,
        delivery_class=traffic.delivery_class,
        enqueued_at=now,
        expires_at=now,
        preferred_provider_id=traffic.preferred_provider_id,
        destination=traffic.destination,
    )


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Which provider would be first for how many deliveries; None: they would wait, or no provider is left."""

    deliveries: int
    is_complete: bool  # False: only the newest of the range were read
    current: Mapping[UUID | None, int]
    proposed: Mapping[UUID | None, int]


async def rehearse(
    services: Services,
    principal: Principal,
    *,
    channel: Channel,
    order: Sequence[str],
    within: timedelta,
    now: datetime,
) -> Rehearsal:
    """What the health of now and an order would make of the recent deliveries of a channel. Nothing is sent.

    Probes are not counted: they are few, and go to each provider that needs them in either order.

    Raises:
        ValidationFailed: an id of the order is repeated, or not of a provider of the project and the channel.
        Unavailable: PostgreSQL does not answer.
    """
    proposed = _config(services, principal, channel, order)
    async with transaction(services.pool, principal.project_id) as db:
        recent = await routing_traffic.list_recent(
            db, principal.scope, channel.value, since=now - within, limit=_MAX_REHEARSED + 1
        )
    shown = recent[:_MAX_REHEARSED]
    numbers = Counter(
        Traffic(DeliveryClass(one.delivery_class), one.preferred_provider_id, destination_of(channel, one.recipient))
        for one in shown
    )
    results: tuple[Counter[UUID | None], Counter[UUID | None]] = (Counter(), Counter())
    for found, config in zip(results, (services.config, proposed), strict=True):
        for traffic, number in numbers.items():
            task = _task(principal, channel, traffic, now)
            selection, _ = decide(task, config, services.health, now, lambda *_: False)
            found[selection.provider.id if isinstance(selection, Selected) else None] += number
    return Rehearsal(len(shown), len(recent) <= _MAX_REHEARSED, *results)
