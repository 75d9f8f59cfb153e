"""The provider for a delivery's next attempt: a pure function of its arguments, so that every decision can be replayed.

The order is: the preferred provider, probes, healthy providers by priority, degraded ones by priority; among equal
priorities by weight, or the cheaper first (:mod:`sluice.routing.shares`). Unhealthy
providers are selected as probes only, or when every candidate that is left in the retry round is unhealthy or
suspended: a round goes over every provider. Which status counts is the policy's matter; see
:class:`sluice.model.routing_policy.RoutingPolicy`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from sluice.bus.messages import DeliveryTask, HealthState, ProviderHealth
from sluice.model.candidate import Candidate
from sluice.model.message import DeliveryClass
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing import shares
from sluice.routing.probe_budget import ProbeTarget

MAX_SAME_KEY_RETRIES = 3  # unknown attempts at one idempotent provider before another provider is selected

Health = Mapping[UUID, ProviderHealth]
AllowProbe = Callable[[ProbeTarget, datetime, bool], bool]
"""Whether a delivery may probe a target now; the last argument: whether it is urgent."""

_NOT_ELIGIBLE = 99  # a rank above all others
_PREFERRED, _FIRST, _RETURNING, _DEGRADED = 0, 4, 8, 12  # ranks
_DEPRIORITIZED, _NO_PROBE = 2, 1  # are added to a rank


class Assessment(NamedTuple):
    """One candidate for one task: eligible with a rank, unhealthy, suspended, or already attempted."""

    candidate: Candidate
    rank: int = _NOT_ELIGIBLE  # the lowest is selected
    state: HealthState | None = None  # the health that counts under the policy
    probe: ProbeTarget | None = None
    unhealthy: bool = False  # and not to be probed now
    suspended_until: datetime | None = None

    @property
    def exclusion(self) -> str:
        """The reason why another candidate is selected."""
        if self.rank != _NOT_ELIGIBLE:
            return "lower priority"  # or another share of the same; see Selected
        if self.suspended_until is not None:
            return f"suspended until {self.suspended_until.isoformat(timespec='seconds')}"
        if self.unhealthy:
            return f"unhealthy: {self.state.reason if self.state else ''}"
        return "attempted in this retry round"


@dataclass(frozen=True, slots=True)
class _Decision:
    assessments: tuple[Assessment, ...]

    @property
    def excluded(self) -> dict[UUID, str]:
        """The reason for each candidate that is not selected."""
        return {one.candidate.id: one.exclusion for one in self.assessments}


@dataclass(frozen=True, slots=True)
class Selected(_Decision):
    """The next attempt goes to ``provider``."""

    provider: Candidate
    reason: str
    same_key: bool = False  # retries the unknown attempt at this provider under its reference
    probe: ProbeTarget | None = None  # the provider is not healthy, and the attempt tests whether it still is not

    @property
    def excluded(self) -> dict[UUID, str]:
        """The reason for each candidate that is not selected."""
        others = [one for one in self.assessments if one.candidate is not self.provider]
        return {one.candidate.id: self.exclusion(one) for one in others}

    def exclusion(self, other: Assessment) -> str:
        """The reason why another candidate is selected; of an equal one, its price or its weight."""
        chosen = next((one for one in self.assessments if one.candidate is self.provider), None)
        if chosen is None or self.same_key or not _is_equal(chosen, other):
            return other.exclusion
        return shares.exclusion(other.candidate, self.provider)


@dataclass(frozen=True, slots=True)
class Deferred(_Decision):
    """All eligible providers are suspended; retry at ``until``."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Exhausted(_Decision):
    """Every provider was attempted in this retry round."""


Selection = Selected | Deferred | Exhausted

_rank = attrgetter("rank")


def select_provider(
    task: DeliveryTask,
    candidates: Sequence[Candidate],
    health: Health,
    now: datetime,
    allow_probe: AllowProbe,
    policy: RoutingPolicy = RoutingPolicy.ADAPTIVE,
) -> Selection:
    """Select among ``candidates``, the enabled providers of the delivery's channel in priority order.

    ``allow_probe`` decides whether this delivery may probe an unhealthy provider.
    """
    assessments = tuple([_assess(task, one, health.get(one.id), now, allow_probe, policy) for one in candidates])
    same_key = _same_key_candidate(task, candidates, health, now)
    if same_key is not None:
        return Selected(assessments, same_key, "same-key retry", same_key=True)
    best = min(assessments, key=_rank, default=None)
    if best is not None and best.rank != _NOT_ELIGIBLE:
        equal = [one for one in assessments if _is_equal(best, one)]
        if len(equal) == 1:
            return _selected(task, best, _reason(task, best), assessments)
        place, share = shares.choose(task.delivery_id, [one.candidate for one in equal])
        return _selected(task, equal[place], f"{_reason(task, equal[place])}, {share}", assessments)
    unhealthy = [one for one in assessments if one.unhealthy]
    if unhealthy:
        best = min(unhealthy, key=lambda one: (one.candidate.id in task.deprioritized, _error_rate(one)))
        return _selected(task, best, "no healthy provider is left: least unhealthy chosen", assessments)
    suspended = [one.suspended_until for one in assessments if one.suspended_until is not None]
    return Deferred(assessments, min(suspended)) if suspended else Exhausted(assessments)


def _is_equal(best: Assessment, one: Assessment) -> bool:
    return one.rank == best.rank and one.rank != _NOT_ELIGIBLE and one.candidate.priority == best.candidate.priority


def _same_key_candidate(
    task: DeliveryTask, candidates: Sequence[Candidate], health: Health, now: datetime
) -> Candidate | None:
    handle = task.retry_handle
    if handle is None or task.delivery_class is DeliveryClass.URGENT or task.unknown_attempts > MAX_SAME_KEY_RETRIES:
        return None
    for candidate in candidates:
        if candidate.id == handle.provider_id and not _suspension(task, candidate.id, health.get(candidate.id), now):
            return candidate
    return None


def _assess(
    task: DeliveryTask,
    candidate: Candidate,
    health: ProviderHealth | None,
    now: datetime,
    allow_probe: AllowProbe,
    policy: RoutingPolicy,
) -> Assessment:
    id_ = candidate.id
    if task.attempted_providers and id_ in task.attempted_providers:
        return Assessment(candidate)
    rank = _NO_PROBE
    if task.deprioritized and id_ in task.deprioritized:
        rank += _DEPRIORITIZED
    elif task.preferred_provider_id is not None and id_ == task.preferred_provider_id:
        rank += _PREFERRED - _FIRST
    suspended_until = _suspension(task, id_, health, now)
    if suspended_until is not None:
        return Assessment(candidate, suspended_until=suspended_until)
    if health is None:
        return Assessment(candidate, _FIRST + rank)
    state, probe = _state(task, health, now, policy), None
    if state is None:
        return Assessment(candidate, _FIRST + rank)
    if state.status == "healthy":
        if rank > 0 and not _has_full_share(task, state, now):
            return Assessment(candidate, _RETURNING + rank, state)
        return Assessment(candidate, _FIRST + rank, state)
    if policy is RoutingPolicy.ADAPTIVE:
        target = _probe_target(task, health, state)
        probe = target if allow_probe(target, now, task.delivery_class is DeliveryClass.URGENT) else None
    if probe is not None:
        return Assessment(candidate, _FIRST + rank - _NO_PROBE, state, probe)
    if state.status == "unhealthy":
        return Assessment(candidate, state=state, unhealthy=True)
    # Degraded, or a status of a newer health service.
    return Assessment(candidate, rank + (_DEGRADED if rank > 0 else _FIRST), state)


def _state(task: DeliveryTask, health: ProviderHealth, now: datetime, policy: RoutingPolicy) -> HealthState | None:
    """The health that counts for the delivery under the policy; None: the priority alone decides."""
    if policy is RoutingPolicy.ADAPTIVE:
        if not health.destinations or health.status == "unhealthy":
            return health
        there = health.destinations.get(task.destination)
        return health if there is None or (there.status == "healthy" and health.status != "healthy") else there
    seed = health.seed
    if policy is RoutingPolicy.STATIC or seed is None:
        return None
    # After its pause, an unhealthy provider begins again.
    return None if seed.probe_at is not None and seed.probe_at <= now else seed


def _probe_target(task: DeliveryTask, health: ProviderHealth, state: HealthState) -> ProbeTarget:
    destination = "" if state is health else task.destination
    return ProbeTarget(health.provider_id, destination, state.probe_at, state.probe_interval, state.probe_results)


def _has_full_share(task: DeliveryTask, state: HealthState, now: datetime) -> bool:
    """Whether a provider that has just returned gets this delivery: more of them from second to second."""
    if state.healthy_since is None or state.full_share_at is None or now >= state.full_share_at:
        return True
    if state.full_share_at <= state.healthy_since:
        return True
    share = (now - state.healthy_since) / (state.full_share_at - state.healthy_since)
    return (task.delivery_id.int * _SPREAD & _FRACTION) / (_FRACTION + 1) < share


_SPREAD, _FRACTION = 0x9E3779B97F4A7C15, 0xFFFF  # ids of one moment are neighbours


def _error_rate(assessment: Assessment) -> float:
    return assessment.state.error_rate if assessment.state is not None else 0.0


def _suspension(task: DeliveryTask, provider_id: UUID, health: ProviderHealth | None, now: datetime) -> datetime | None:
    """The end of the provider's pause: of its account, or of this delivery alone."""
    ends = (health.suspended_until if health is not None else None, task.not_before.get(provider_id))
    return max((end for end in ends if end is not None and end > now), default=None)


def _reason(task: DeliveryTask, best: Assessment) -> str:
    if task.preferred_provider_id is not None and best.candidate.id == task.preferred_provider_id:
        return "preferred"
    if best.state is None:
        return f"priority {best.candidate.priority}"
    return "probe" if best.probe is not None else f"{best.state.status}, priority {best.candidate.priority}"


def _selected(task: DeliveryTask, best: Assessment, reason: str, assessments: tuple[Assessment, ...]) -> Selected:
    handle = task.retry_handle
    # An idempotent provider that may have the message gets the old reference, however it was selected.
    same_key = handle is not None and handle.provider_id == best.candidate.id
    return Selected(assessments, best.candidate, reason, same_key=same_key, probe=best.probe)
