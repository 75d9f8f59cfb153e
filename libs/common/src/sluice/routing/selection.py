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

from sluice.bus.messages import Drive, ProviderHealth
from sluice.model.message import Class
from sluice.store.configuration import ProviderRow

MOST_REPEATS = 3  # ambiguous attempts at one idempotent provider before another way is tried

Health = Mapping[UUID, ProviderHealth]
MayProbe = Callable[[ProviderHealth, datetime], bool]


@dataclass(frozen=True, slots=True)
class Route:
    """Send through ``provider``; ``left_out`` says for each other candidate why not."""

    provider: ProviderRow
    why: str
    left_out: Mapping[UUID, str] = field(default_factory=dict)
    repeats: bool = False  # the ambiguous attempt before, under its reference
    probes: bool = False  # the provider is out, and this is to show whether it still is


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody can, but nobody may before ``until``."""

    until: datetime
    left_out: Mapping[UUID, str]


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Nobody is left in this round."""

    left_out: Mapping[UUID, str]


Choice = Route | Wait | Exhausted


def choose(
    drive: Drive, candidates: Sequence[ProviderRow], health: Health, now: datetime, may_probe: MayProbe
) -> Choice:
    """Choose among ``candidates``, the enabled providers of the delivery's channel in priority order.

    ``may_probe`` says of a provider that is out whether this delivery may try it.
    """
    repeated = _repeat(drive, candidates, health, now)
    if repeated is not None:
        return Route(repeated, "repeat under the same idempotency key", repeats=True)
    left_out: dict[UUID, str] = {}
    eligible, out, held = _sort(drive, candidates, health, now, may_probe, left_out)
    # Stable: who could not take it just now comes after everybody else of the same rank.
    eligible.sort(key=lambda provider: provider.id in drive.avoid)
    for wanted in (_wanted(drive), _verdict(health, "healthy"), _verdict(health, "degraded")):
        for provider in eligible:
            if wanted(provider):
                why = _reason(provider, drive, health)
                probes = _is_out(health.get(provider.id))
                return _route(drive, provider, why, left_out, [*eligible, *out], probes=probes)
    # Everybody bad at once is more likely our own fault than theirs.
    if out and len(out) + len(held) == len(candidates):
        least_bad = min(out, key=lambda provider: health[provider.id].error_rate)
        return _route(drive, least_bad, "all providers look bad: the least bad one", left_out, out)
    if held:
        return Wait(min(until for _, until in held), left_out)
    return Exhausted(left_out)


def _repeat(drive: Drive, candidates: Sequence[ProviderRow], health: Health, now: datetime) -> ProviderRow | None:
    if drive.repeat is None or drive.class_ is Class.URGENT or drive.ambiguous > MOST_REPEATS:
        return None
    for provider in candidates:
        verdict = health.get(provider.id)
        if provider.id == drive.repeat.provider_id and not _hold(verdict, now):
            return provider
    return None


def _sort(
    drive: Drive,
    candidates: Sequence[ProviderRow],
    health: Health,
    now: datetime,
    may_probe: MayProbe,
    left_out: dict[UUID, str],
) -> tuple[list[ProviderRow], list[ProviderRow], list[tuple[ProviderRow, datetime]]]:
    """Who may be called, who is out as unhealthy, and who must not be called before a time; reasons are noted."""
    eligible: list[ProviderRow] = []
    out: list[ProviderRow] = []
    held: list[tuple[ProviderRow, datetime]] = []
    for provider in candidates:
        verdict = health.get(provider.id)
        hold = _hold(verdict, now)
        if provider.id in drive.tried:
            left_out[provider.id] = "tried in this round"
        elif hold is not None:
            left_out[provider.id] = f"held until {hold.isoformat(timespec='seconds')}"
            held.append((provider, hold))
        elif not _is_out(verdict):
            eligible.append(provider)
        elif may_probe(verdict, now):
            eligible.insert(0, provider)
        else:
            left_out[provider.id] = f"unhealthy: {verdict.reason}"
            out.append(provider)
    return eligible, out, held


def _is_out(verdict: ProviderHealth | None) -> TypeGuard[ProviderHealth]:
    return verdict is not None and verdict.verdict == "unhealthy"


def _hold(verdict: ProviderHealth | None, now: datetime) -> datetime | None:
    if verdict is None or verdict.hold_until is None or verdict.hold_until <= now:
        return None
    return verdict.hold_until


def _wanted(drive: Drive) -> Callable[[ProviderRow], bool]:
    return lambda provider: provider.id == drive.preferred and provider.id not in drive.avoid


def _verdict(health: Health, word: str) -> Callable[[ProviderRow], bool]:
    def fits(provider: ProviderRow) -> bool:
        known = health.get(provider.id)
        # An unhealthy one among the eligible is there as a probe, and a probe goes first or not at all.
        if known is None or known.verdict == "healthy" or _is_out(known):
            return word == "healthy"
        return word == "degraded"  # also for a word of a newer health service

    return fits


def _reason(provider: ProviderRow, drive: Drive, health: Health) -> str:
    if provider.id == drive.preferred:
        return "preferred"
    known = health.get(provider.id)
    if known is None:
        return f"priority {provider.priority}"
    if _is_out(known):
        return "probe"
    return f"{known.verdict}, priority {provider.priority}"


def _route(
    drive: Drive,
    chosen: ProviderRow,
    why: str,
    left_out: dict[UUID, str],
    others: Sequence[ProviderRow],
    *,
    probes: bool = False,
) -> Route:
    for provider in others:
        if provider.id != chosen.id:
            left_out.setdefault(provider.id, "after the chosen one")
    left_out.pop(chosen.id, None)
    # An idempotent provider that may already have it gets the old reference, whatever led back to it.
    repeats = drive.repeat is not None and drive.repeat.provider_id == chosen.id
    return Route(chosen, why, left_out, repeats, probes)
