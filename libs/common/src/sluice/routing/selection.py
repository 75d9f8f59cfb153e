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

from sluice.bus.messages import DeliveryTask, ProviderHealth
from sluice.model.candidate import Candidate
from sluice.model.message import DeliveryClass

MAX_SAME_KEY_RETRIES = 3  # unknown attempts at one idempotent provider before another provider is selected

Health = Mapping[UUID, ProviderHealth]
AllowProbe = Callable[[ProviderHealth, datetime], bool]


@dataclass(frozen=True, slots=True)
class Selected:
    """The next attempt goes to ``provider``; ``excluded`` has the reason for each other candidate."""

    provider: Candidate
    reason: str
    excluded: Mapping[UUID, str] = field(default_factory=dict)
    same_key: bool = False  # retries the unknown attempt at this provider under its reference
    is_probe: bool = False  # the provider is unhealthy, and the attempt tests whether it still is


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


class _Assessment(NamedTuple):
    """One candidate for one task: eligible with a rank, unhealthy, suspended, or already attempted."""

    candidate: Candidate
    exclusion: str  # the reason to record if another candidate is selected
    rank: tuple[int, bool, bool] = _NOT_ELIGIBLE  # the lowest is selected
    is_probe: bool = False
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
        return _selected(task, best, _reason(task, best.candidate, health), assessments)
    unhealthy = [one for one in assessments if one.unhealthy]
    suspended = [one.suspended_until for one in assessments if one.suspended_until is not None]
    if unhealthy:
        best = min(unhealthy, key=lambda one: (one.candidate.id in task.deprioritized, _error_rate(one, health)))
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
    is_probe = health is not None and health.status == "unhealthy"
    if health is not None and is_probe and not allow_probe(health, now):
        return _Assessment(candidate, f"unhealthy: {health.reason}", unhealthy=True)
    deprioritized = candidate.id in task.deprioritized
    if candidate.id == task.preferred_provider_id and not deprioritized:
        order = 0
    elif health is None or is_probe or health.status == "healthy":
        order = 1
    else:  # degraded, or a status of a newer health service
        order = 2
    return _Assessment(candidate, "lower priority", (order, deprioritized, not is_probe), is_probe)


def _error_rate(assessment: _Assessment, health: Health) -> float:
    known = health.get(assessment.candidate.id)
    return known.error_rate if known is not None else 0.0


def _suspension(health: ProviderHealth | None, now: datetime) -> datetime | None:
    if health is None or health.suspended_until is None or health.suspended_until <= now:
        return None
    return health.suspended_until


def _reason(task: DeliveryTask, candidate: Candidate, health: Health) -> str:
    known = health.get(candidate.id)
    if candidate.id == task.preferred_provider_id:
        return "preferred"
    if known is None:
        return f"priority {candidate.priority}"
    return "probe" if known.status == "unhealthy" else f"{known.status}, priority {candidate.priority}"


def _selected(task: DeliveryTask, best: _Assessment, reason: str, assessments: Sequence[_Assessment]) -> Selected:
    handle = task.retry_handle
    return Selected(
        best.candidate,
        reason,
        {one.candidate.id: one.exclusion for one in assessments if one is not best},
        # An idempotent provider that may have the message gets the old reference, however it was selected.
        same_key=handle is not None and handle.provider_id == best.candidate.id,
        is_probe=best.is_probe,
    )
