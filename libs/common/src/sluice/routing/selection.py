"""Which provider carries a delivery next: a pure function of its arguments.

No clock and no I/O, so that every decision can be replayed. The rule is the seed's: preferred, then healthy by
priority, then degraded by priority; unhealthy ones only for a few probes, or when all are unhealthy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeGuard
from uuid import UUID

from sluice.bus.messages import DeliveryTask, ProviderHealth
from sluice.model.message import DeliveryClass
from sluice.store.providers import ProviderRow

MAX_SAME_KEY_RETRIES = 3  # ambiguous attempts at one idempotent provider before another way is tried

Health = Mapping[UUID, ProviderHealth]
AllowProbe = Callable[[ProviderHealth, datetime], bool]


@dataclass(frozen=True, slots=True)
class Selected:
    """Send through ``provider``; ``left_out`` says for each other candidate why not."""

    provider: ProviderRow
    reason: str
    excluded: Mapping[UUID, str] = field(default_factory=dict)
    same_key: bool = False  # the ambiguous attempt before, under its reference
    is_probe: bool = False  # the provider is out, and this is to show whether it still is


@dataclass(frozen=True, slots=True)
class Deferred:
    """Somebody can, but nobody may before ``until``."""

    until: datetime
    excluded: Mapping[UUID, str]


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Nobody is left in this round."""

    excluded: Mapping[UUID, str]


Selection = Selected | Deferred | Exhausted


def select_provider(
    task: DeliveryTask, candidates: Sequence[ProviderRow], health: Health, now: datetime, allow_probe: AllowProbe
) -> Selection:
    """Choose among ``candidates``, the enabled providers of the delivery's channel in priority order.

    ``may_probe`` says of a provider that is out whether this delivery may try it.
    """
    repeated = _same_key_retry(task, candidates, health, now)
    if repeated is not None:
        return Selected(repeated, "repeat under the same idempotency key", same_key=True)
    excluded: dict[UUID, str] = {}
    eligible, out, held = _partition(task, candidates, health, now, allow_probe, excluded)
    # Stable: who could not take it just now comes after everybody else of the same rank.
    eligible.sort(key=lambda provider: provider.id in task.deprioritized)
    for wanted in (_is_preferred(task), _has_status(health, "healthy"), _has_status(health, "degraded")):
        for provider in eligible:
            if wanted(provider):
                why = _reason(provider, task, health)
                probes = _is_open(health.get(provider.id))
                return _selected(task, provider, why, excluded, [*eligible, *out], is_probe=probes)
    # Everybody bad at once is more likely our own fault than theirs.
    if out and len(out) + len(held) == len(candidates):
        least_bad = min(out, key=lambda provider: health[provider.id].error_rate)
        return _selected(task, least_bad, "all providers look bad: the least bad one", excluded, out)
    if held:
        return Deferred(min(until for _, until in held), excluded)
    return Exhausted(excluded)


def _same_key_retry(
    task: DeliveryTask, candidates: Sequence[ProviderRow], health: Health, now: datetime
) -> ProviderRow | None:
    if (
        task.retry_handle is None
        or task.delivery_class is DeliveryClass.URGENT
        or task.unknown_attempts > MAX_SAME_KEY_RETRIES
    ):
        return None
    for provider in candidates:
        verdict = health.get(provider.id)
        if provider.id == task.retry_handle.provider_id and not _suspension(verdict, now):
            return provider
    return None


def _partition(
    task: DeliveryTask,
    candidates: Sequence[ProviderRow],
    health: Health,
    now: datetime,
    allow_probe: AllowProbe,
    excluded: dict[UUID, str],
) -> tuple[list[ProviderRow], list[ProviderRow], list[tuple[ProviderRow, datetime]]]:
    """Who may be called, who is out as unhealthy, and who must not be called before a time; reasons are noted."""
    eligible: list[ProviderRow] = []
    out: list[ProviderRow] = []
    held: list[tuple[ProviderRow, datetime]] = []
    for provider in candidates:
        verdict = health.get(provider.id)
        hold = _suspension(verdict, now)
        if provider.id in task.attempted_providers:
            excluded[provider.id] = "tried in this round"
        elif hold is not None:
            excluded[provider.id] = f"held until {hold.isoformat(timespec='seconds')}"
            held.append((provider, hold))
        elif not _is_open(verdict):
            eligible.append(provider)
        elif allow_probe(verdict, now):
            eligible.insert(0, provider)
        else:
            excluded[provider.id] = f"unhealthy: {verdict.reason}"
            out.append(provider)
    return eligible, out, held


def _is_open(health: ProviderHealth | None) -> TypeGuard[ProviderHealth]:
    return health is not None and health.status == "unhealthy"


def _suspension(health: ProviderHealth | None, now: datetime) -> datetime | None:
    if health is None or health.suspended_until is None or health.suspended_until <= now:
        return None
    return health.suspended_until


def _is_preferred(task: DeliveryTask) -> Callable[[ProviderRow], bool]:
    return lambda provider: provider.id == task.preferred_provider_id and provider.id not in task.deprioritized


def _has_status(health: Health, word: str) -> Callable[[ProviderRow], bool]:
    def fits(provider: ProviderRow) -> bool:
        known = health.get(provider.id)
        # An unhealthy one among the eligible is there as a probe, and a probe goes first or not at all.
        if known is None or known.status == "healthy" or _is_open(known):
            return word == "healthy"
        return word == "degraded"  # also for a word of a newer health service

    return fits


def _reason(provider: ProviderRow, task: DeliveryTask, health: Health) -> str:
    if provider.id == task.preferred_provider_id:
        return "preferred"
    known = health.get(provider.id)
    if known is None:
        return f"priority {provider.priority}"
    if _is_open(known):
        return "probe"
    return f"{known.status}, priority {provider.priority}"


def _selected(
    task: DeliveryTask,
    chosen: ProviderRow,
    reason: str,
    excluded: dict[UUID, str],
    others: Sequence[ProviderRow],
    *,
    is_probe: bool = False,
) -> Selected:
    for provider in others:
        if provider.id != chosen.id:
            excluded.setdefault(provider.id, "after the chosen one")
    excluded.pop(chosen.id, None)
    # An idempotent provider that may already have it gets the old reference, whatever led back to it.
    repeats = task.retry_handle is not None and task.retry_handle.provider_id == chosen.id
    return Selected(chosen, reason, excluded, repeats, is_probe)
