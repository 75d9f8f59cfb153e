"""The provider for a delivery's next attempt: a pure function of its arguments, so that every decision can be replayed.

The order is: the preferred provider, half-open probes, healthy providers by priority, degraded ones by priority.
Unhealthy providers are selected as probes only, or when every candidate that is left in the retry round is unhealthy or
suspended: a round goes over every provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from sluice.bus.messages import DeliveryTask, HealthState, ProviderHealth
from sluice.model.candidate import Candidate
from sluice.model.message import DeliveryClass
from sluice.routing.probe_budget import ProbeTarget

MAX_SAME_KEY_RETRIES = 3  # unknown attempts at one idempotent provider before another provider is selected

Health = Mapping[UUID, ProviderHealth]
AllowProbe = Callable[[ProbeTarget, datetime, bool], bool]
"""Whether a delivery may probe a target now; the last argument: whether it is urgent."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The next attempt goes to ``provider``; ``excluded`` has the reason for each other candidate."""

    provider: Candidate
    reason: str
    excluded: Mapping[UUID, str] = field(default_factory=dict)
    same_key: bool = False  # retries the unknown attempt at this provider under its reference
    probe: ProbeTarget | None = None  # the provider is not healthy, and the attempt tests whether it still is not


@dataclass(frozen=True, slots=True)
class Deferred:
    """All eligible providers are suspended; retry at ``until``."""

    until: datetime
    excluded: Mapping[UUID, str]


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Every provider was attempted in this retry round."""

    excluded: Mapping[UUID, str]


Selection = Selected | Deferred | Exhausted


_NOT_ELIGIBLE = (9, True, True)  # a rank above all others
_PREFERRED, _FIRST, _RETURNING, _DEGRADED = range(4)


class _Assessment(NamedTuple):
    """One candidate for one task: eligible with a rank, unhealthy, suspended, or already attempted."""

    candidate: Candidate
    exclusion: str  # the reason to record if another candidate is selected
    rank: tuple[int, bool, bool] = _NOT_ELIGIBLE  # the lowest is selected
    state: HealthState | None = None
    probe: ProbeTarget | None = None
    unhealthy: bool = False  # and not to be probed now
    suspended_until: datetime | None = None


_rank = attrgetter("rank")


def select_provider(
    task: DeliveryTask, candidates: Sequence[Candidate], health: Health, now: datetime, allow_probe: AllowProbe
) -> Selection:
    """Select among ``candidates``, the enabled providers of the delivery's channel in priority order.

    ``allow_probe`` decides whether this delivery may probe an unhealthy provider.
    """
    same_key = _same_key_candidate(task, candidates, health, now)
    if same_key is not None:
        return Selected(same_key, "same-key retry", same_key=True)
    assessments = [_assess(task, one, health.get(one.id), now, allow_probe) for one in candidates]
    best = min(assessments, key=_rank, default=None)
    if best is not None and best.rank is not _NOT_ELIGIBLE:
        return _selected(task, best, _reason(task, best), assessments)
    unhealthy = [one for one in assessments if one.unhealthy]
    suspended = [one.suspended_until for one in assessments if one.suspended_until is not None]
    if unhealthy:
        best = min(unhealthy, key=lambda one: (one.candidate.id in task.deprioritized, _error_rate(one)))
        return _selected(task, best, "no healthy provider is left: least unhealthy chosen", assessments)
    excluded = {one.candidate.id: one.exclusion for one in assessments}
    return Deferred(min(suspended), excluded) if suspended else Exhausted(excluded)


def _same_key_candidate(
    task: DeliveryTask, candidates: Sequence[Candidate], health: Health, now: datetime
) -> Candidate | None:
    handle = task.retry_handle
    if handle is None or task.delivery_class is DeliveryClass.URGENT or task.unknown_attempts > MAX_SAME_KEY_RETRIES:
        return None
    for candidate in candidates:
        if candidate.id == handle.provider_id and not _suspension(health.get(candidate.id), now):
            return candidate
    return None


def _assess(
    task: DeliveryTask, candidate: Candidate, health: ProviderHealth | None, now: datetime, allow_probe: AllowProbe
) -> _Assessment:
    if candidate.id in task.attempted_providers:
        return _Assessment(candidate, "attempted in this retry round")
    suspended_until = _suspension(health, now)
    if suspended_until is not None:
        text = f"suspended until {suspended_until.isoformat(timespec='seconds')}"
        return _Assessment(candidate, text, suspended_until=suspended_until)
    deprioritized = candidate.id in task.deprioritized
    if health is None:
        order = _PREFERRED if candidate.id == task.preferred_provider_id and not deprioritized else _FIRST
        return _Assessment(candidate, "lower priority", (order, deprioritized, True))
    state, probe = _state(task, health), None
    if state.status != "healthy":
        target = _probe_target(task, health, state)
        probe = target if allow_probe(target, now, task.delivery_class is DeliveryClass.URGENT) else None
    if state.status == "unhealthy" and probe is None:
        return _Assessment(candidate, f"unhealthy: {state.reason}", state=state, unhealthy=True)
    if candidate.id == task.preferred_provider_id and not deprioritized:
        order = _PREFERRED
    elif probe is not None:
        order = _FIRST
    elif state.status == "healthy":
        order = _FIRST if _has_full_share(task, state, now) else _RETURNING
    else:  # degraded, or a status of a newer health service
        order = _DEGRADED
    return _Assessment(candidate, "lower priority", (order, deprioritized, probe is None), state, probe)


def _state(task: DeliveryTask, health: ProviderHealth) -> HealthState:
    """The health for the delivery's destination."""
    if health.status == "unhealthy" or not task.destination:
        return health
    there = health.destinations.get(task.destination)
    return health if there is None or (there.status == "healthy" and health.status != "healthy") else there


def _probe_target(task: DeliveryTask, health: ProviderHealth, state: HealthState) -> ProbeTarget:
    destination = "" if state is health else task.destination
    return ProbeTarget(health.provider_id, destination, state.probe_at, state.probe_interval, state.probe_results)


def _has_full_share(task: DeliveryTask, state: HealthState, now: datetime) -> bool:
    """Whether a provider that has just returned gets this delivery: more of them from second to second."""
    if state.healthy_since is None or state.full_share_at is None or now >= state.full_share_at:
        return True
    share = (now - state.healthy_since) / (state.full_share_at - state.healthy_since)
    return (task.delivery_id.int * _SPREAD & _FRACTION) / (_FRACTION + 1) < share


_SPREAD, _FRACTION = 0x9E3779B97F4A7C15, 0xFFFF  # ids of one moment are neighbours


def _error_rate(assessment: _Assessment) -> float:
    return assessment.state.error_rate if assessment.state is not None else 0.0


def _suspension(health: ProviderHealth | None, now: datetime) -> datetime | None:
    if health is None or health.suspended_until is None or health.suspended_until <= now:
        return None
    return health.suspended_until


def _reason(task: DeliveryTask, best: _Assessment) -> str:
    if best.candidate.id == task.preferred_provider_id:
        return "preferred"
    if best.state is None:
        return f"priority {best.candidate.priority}"
    return "probe" if best.probe is not None else f"{best.state.status}, priority {best.candidate.priority}"


def _selected(task: DeliveryTask, best: _Assessment, reason: str, assessments: Sequence[_Assessment]) -> Selected:
    handle = task.retry_handle
    return Selected(
        best.candidate,
        reason,
        {one.candidate.id: one.exclusion for one in assessments if one is not best},
        # An idempotent provider that may have the message gets the old reference, however it was selected.
        same_key=handle is not None and handle.provider_id == best.candidate.id,
        probe=best.probe,
    )
