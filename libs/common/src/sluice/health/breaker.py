"""Attempts in, verdict out: pure, so that every verdict can be replayed from the events that led to it.

The thresholds are the seed's and are settings: healthy below 5 % errors over the last 100 sends, degraded up to
25 %, unhealthy above or after consecutive failures. Only the provider's fault counts. One that leaves all calls of a
worker without an answer is degraded before any of them has an outcome. Evidence is forgotten with time, so that a
provider without traffic is not frozen in an old verdict.

Attempts may come in any order. One that comes late counts from the newest that is remembered, so that what is
remembered is in the order of time and its sums can be kept instead of counted; one that comes later than the memory
is long is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"

# How much an outcome counts against the provider. A rejected recipient says nothing about it; an answer that never
# came is worse than an error, because it may cost a duplicate.
FAILURE_WEIGHT = {"accepted": 0.0, "provider_fault": 1.0, "unknown": 1.5}


class Thresholds(BaseModel):
    """The published defaults of the verdict. Durations are seconds, shares are of 1."""

    model_config = ConfigDict(frozen=True)

    window: int = Field(100, ge=1, description="attempts that are looked at")
    evidence_ttl: float = Field(600.0, gt=0, description="attempts older than this are forgotten")
    min_samples: int = Field(20, ge=1, description="attempts below which a share says nothing")
    degraded_error_rate: float = Field(0.05, gt=0, lt=1, description="error share from which a provider is degraded")
    unhealthy_error_rate: float = Field(0.25, gt=0, lt=1, description="error share above which a provider is unhealthy")
    consecutive_failures: int = Field(5, ge=1, description="failures in a row that make a provider unhealthy")
    initial_backoff: float = Field(5.0, gt=0, description="first pause before a probe; doubles with each failed probe")
    max_backoff: float = Field(60.0, gt=0)
    probe_successes: int = Field(3, ge=1, description="accepted probes that make a provider healthy again")
    auth_suspension: float = Field(60.0, gt=0, description="pause after refused credentials; doubles up to an hour")
    auth_grace: float = Field(60.0, ge=0, description="for so long after a success one refusal is not the account's")
    auth_failures_to_suspend: int = Field(
        3, ge=1, description="refusals in a row that park an account which has just worked"
    )
    unresponsive_ttl: float = Field(
        15.0, ge=0, description="for so long a provider that gave no answer at all is degraded"
    )
    default_throttle: float = Field(5.0, gt=0, description="pause after a throttle that named none")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the verdict looks at; ``outcome`` is the word in the event: that of an attempt, or ``silent``."""

    occurred_at: datetime
    outcome: str
    retry_after: timedelta | None = None


Samples: TypeAlias = tuple[tuple[datetime, float], ...]
"""Attempts that are remembered, in the order of time: when, and how much it counted."""


class ProviderStats(NamedTuple):
    """What is known of one provider."""

    samples: Samples = ()
    weight: float = 0.0  # of all the recent ones
    consecutive_failures: int = 0  # failures since the last success among them
    status: str = HEALTHY
    reason: str = ""
    openings: int = 0  # times in a row it went out; sets the back-off
    probe_successes: int = 0
    auth_failures: int = 0  # refused credentials in a row
    probe_at: datetime | None = None
    suspended_until: datetime | None = None
    unresponsive_at: datetime | None = None  # a worker's calls had no answer; None again after the first one

    @property
    def error_rate(self) -> float:
        """Share of the recent attempts that counted as failures; an unknown one counts more than once."""
        return min(1.0, self.weight / len(self.samples)) if self.samples else 0.0


def observe(stats: ProviderStats, attempt: Attempt, limits: Thresholds, jitter: float = 1.0) -> ProviderStats:
    """The record after one more attempt. ``jitter`` (0.5 … 1) spreads the probes of several installations."""
    if (
        stats.unresponsive_at is not None
        and attempt.occurred_at > stats.unresponsive_at
        and attempt.outcome not in ("unresponsive", "unknown")
    ):
        stats = _with_status(stats._replace(unresponsive_at=None), limits)
    match attempt.outcome:
        case "unresponsive":
            return _with_status(
                stats._replace(unresponsive_at=_latest(stats.unresponsive_at, attempt.occurred_at)), limits
            )
        case "auth_failed":
            return _suspend(stats, attempt.occurred_at, limits)
        case "throttled":
            hold = attempt.retry_after or timedelta(seconds=limits.default_throttle)
            return stats._replace(suspended_until=_latest(stats.suspended_until, attempt.occurred_at + hold))
        case "accepted" | "provider_fault" | "unknown":
            if stats.samples and _is_old(attempt.occurred_at, stats.samples[-1][0], limits.evidence_ttl):
                return stats
            return _evaluate(_count(stats, attempt, limits), attempt, limits, jitter)
        case _:
            return stats


def decay(stats: ProviderStats, now: datetime, limits: Thresholds) -> ProviderStats:
    """The record as time passes: old evidence is forgotten, and with it a verdict that rests on it alone."""
    recent, lost = _evict(stats.samples, now, limits, limits.window)
    silent_at = stats.unresponsive_at
    if silent_at is not None and _is_old(silent_at, now, limits.unresponsive_ttl):
        silent_at = None
    if len(recent) == len(stats.samples) and silent_at == stats.unresponsive_at:
        return stats
    in_a_row = min(stats.consecutive_failures, len(recent))
    weight = stats.weight - lost
    return _with_status(
        stats._replace(samples=recent, weight=weight, consecutive_failures=in_a_row, unresponsive_at=silent_at), limits
    )


def _evict(samples: Samples, now: datetime, limits: Thresholds, most: int) -> tuple[Samples, float]:
    """At most the ``most`` last, without those that are too old; and the weight of those that are gone."""
    excess = len(samples) - most
    gone, lost = 0, 0.0
    while gone < len(samples) and (gone < excess or _is_old(samples[gone][0], now, limits.evidence_ttl)):
        lost += samples[gone][1]
        gone += 1
    return samples[gone:], lost


def _is_old(at: datetime, now: datetime, memory: float) -> bool:
    return (now - at).total_seconds() >= memory


def _count(stats: ProviderStats, attempt: Attempt, limits: Thresholds) -> ProviderStats:
    weight = FAILURE_WEIGHT[attempt.outcome]
    at = max(attempt.occurred_at, stats.samples[-1][0]) if stats.samples else attempt.occurred_at
    recent, lost = _evict(stats.samples, at, limits, limits.window - 1)
    return stats._replace(
        samples=(*recent, (at, weight)),
        weight=stats.weight - lost + weight,
        consecutive_failures=min(stats.consecutive_failures, len(recent)) + 1 if weight else 0,
        auth_failures=0,
    )


def _evaluate(stats: ProviderStats, attempt: Attempt, limits: Thresholds, jitter: float) -> ProviderStats:
    failed = attempt.outcome != "accepted"
    if stats.status == UNHEALTHY:
        return _evaluate_probe(stats, attempt, limits, jitter, failed=failed)
    if failed and stats.consecutive_failures >= limits.consecutive_failures:
        return _open(stats, attempt.occurred_at, f"{stats.consecutive_failures} failures in a row", limits, jitter)
    if failed and len(stats.samples) >= limits.min_samples and stats.error_rate > limits.unhealthy_error_rate:
        return _open(stats, attempt.occurred_at, _describe_error_rate(stats), limits, jitter)
    return _with_status(stats, limits)


def _evaluate_probe(
    stats: ProviderStats, attempt: Attempt, limits: Thresholds, jitter: float, *, failed: bool
) -> ProviderStats:
    if stats.probe_at is not None and attempt.occurred_at < stats.probe_at:
        return stats  # an answer to a call from before it went out
    if failed:
        return _open(stats, attempt.occurred_at, "a probe failed", limits, jitter)
    if stats.probe_successes + 1 < limits.probe_successes:
        return stats._replace(probe_successes=stats.probe_successes + 1)
    return ProviderStats(suspended_until=stats.suspended_until)


def _open(stats: ProviderStats, at: datetime, reason: str, limits: Thresholds, jitter: float) -> ProviderStats:
    pause = min(limits.max_backoff, limits.initial_backoff * 2**stats.openings) * jitter
    return stats._replace(
        status=UNHEALTHY,
        reason=reason,
        openings=min(stats.openings + 1, 16),
        probe_successes=0,
        probe_at=at + timedelta(seconds=pause),
    )


def _suspend(stats: ProviderStats, at: datetime, limits: Thresholds) -> ProviderStats:
    """Refused credentials park the account at once. But where it has just taken other messages, one refusal is
    more likely about a sender that it may not use, and only several in a row say otherwise.
    """
    successes = len(stats.samples) - stats.consecutive_failures  # up to and with the last one
    worked = successes > 0 and at - stats.samples[successes - 1][0] < timedelta(seconds=limits.auth_grace)
    if worked and stats.auth_failures + 1 < limits.auth_failures_to_suspend:
        return stats._replace(auth_failures=stats.auth_failures + 1)
    before = stats.auth_failures if not worked else stats.auth_failures + 1 - limits.auth_failures_to_suspend
    pause = min(3600.0, limits.auth_suspension * 2**before)
    return stats._replace(
        status=UNHEALTHY,
        reason="credentials or account refused",
        auth_failures=min(stats.auth_failures + 1, 16),
        probe_successes=0,
        probe_at=at + timedelta(seconds=pause),
        suspended_until=_latest(stats.suspended_until, at + timedelta(seconds=pause)),
    )


def _with_status(stats: ProviderStats, limits: Thresholds) -> ProviderStats:
    """With the verdict that follows from what is remembered; who is out comes back by probes only."""
    if stats.status == UNHEALTHY:
        return stats
    if len(stats.samples) >= limits.min_samples and stats.error_rate >= limits.degraded_error_rate:
        return stats._replace(status=DEGRADED, reason=_describe_error_rate(stats))
    if stats.unresponsive_at is not None:
        return stats._replace(status=DEGRADED, reason="no call is answered")
    return stats if stats.status == HEALTHY else stats._replace(status=HEALTHY, reason="")


def _describe_error_rate(stats: ProviderStats) -> str:
    return f"{stats.error_rate:.0%} errors in the last {len(stats.samples)} sends"


def _latest(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
