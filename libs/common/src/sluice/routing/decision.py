"""A routing decision as JSON, which is stored with the attempt: enough to explain it when the evidence has gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import orjson

from sluice.bus.messages import DeliveryTask
from sluice.model.candidate import Candidate
from sluice.model.message import Channel
from sluice.model.routing_policy import RoutingPolicy
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.routing.selection import (
    AllowProbe,
    Assessment,
    Deferred,
    Health,
    Selected,
    Selection,
    select_provider,
)

_MAX_CANDIDATES = 10  # of a stored decision

SANDBOX_DECISION: Mapping[str, Any] = {
    "decision": "selected",
    "provider": str(SANDBOX_PROVIDER_ID),
    "reason": "the API key is a test key",
    "candidates": [],
}
"""The decision for every message of a test key."""


class RoutingConfig(Protocol):
    """What a decision needs of the configuration: :class:`sluice.store.config_cache.ConfigCache` has it."""

    def candidates(self, project_id: UUID, channel: Channel) -> Sequence[Candidate]:
        """The enabled providers of a project's channel, in priority order."""

    def routing_policy(self, project_id: UUID) -> RoutingPolicy:
        """The policy of a project."""


def decide(
    task: DeliveryTask, config: RoutingConfig, health: Health, now: datetime, allow_probe: AllowProbe
) -> tuple[Selection, RoutingPolicy]:
    """The decision for the task's next attempt, and the policy that made it."""
    candidates, policy = config.candidates(task.project_id, task.channel), config.routing_policy(task.project_id)
    return select_provider(task, candidates, health, now, allow_probe, policy), policy


def encode_decision(selection: Selection, policy: RoutingPolicy, destination: str) -> str:
    """The JSON of :func:`describe_decision`, shortened: an attempt stores it."""
    return orjson.dumps(shorten_decision(describe_decision(selection, policy, destination))).decode()


def shorten_decision(decision: dict[str, Any]) -> dict[str, Any]:
    """A decision of :func:`describe_decision` with its first ten candidates and the selected one."""
    chosen = decision.get("provider")
    few = [one for place, one in enumerate(decision["candidates"]) if place < _MAX_CANDIDATES or one["id"] == chosen]
    return decision | {"candidates": few}


def describe_decision(selection: Selection, policy: RoutingPolicy, destination: str) -> dict[str, Any]:
    """``{"policy", "destination", "decision", "provider", "reason", "until", "candidates"}``; no absent value.

    ``decision``: ``selected``, ``deferred`` or ``exhausted``. ``candidates``, in priority order, each with ``id``,
    ``priority``, ``weight`` and ``price`` if it has them,
    ``excluded`` (the reason, unless it is selected) and ``evidence``: status, reason, error rate and the
    weight of the attempts behind it, as the router knew them.
    """
    found: dict[str, Any] = {"policy": policy.value, "destination": destination or None, "decision": "exhausted"}
    chosen = None
    if isinstance(selection, Selected):
        chosen = selection.provider
        found |= {"decision": "selected", "provider": str(chosen.id), "reason": selection.reason}
    elif isinstance(selection, Deferred):
        found |= {"decision": "deferred", "until": selection.until.isoformat(timespec="milliseconds")}
    excluded = selection.excluded
    found["candidates"] = [_candidate(one, excluded.get(one.candidate.id)) for one in selection.assessments]
    return {name: value for name, value in found.items() if value is not None}


def _candidate(one: Assessment, excluded: str | None) -> dict[str, Any]:
    candidate = one.candidate
    described: dict[str, Any] = {"id": str(candidate.id), "priority": candidate.priority}
    if candidate.weight is not None:
        described["weight"] = candidate.weight
    if candidate.price is not None:
        described["price"] = candidate.price
    if excluded is not None:
        described["excluded"] = excluded
    state = one.state
    if state is not None:
        described["evidence"] = {
            "status": state.status,
            "error_rate": state.error_rate,
            "attempts": state.effective_samples,
        }
        if state.reason:
            described["evidence"]["reason"] = state.reason
    return described
