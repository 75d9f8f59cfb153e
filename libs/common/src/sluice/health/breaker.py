"""The circuit breaker: the pure function from a provider's attempts to its health status.

Healthy below 5 % errors in the last 100 attempts, degraded up to 25 %, unhealthy above that or after consecutive
failures; the thresholds are settings. Only the provider's own faults count. A provider that leaves all calls of a
worker without a response is degraded before any of them has an outcome. Evidence expires, so that a provider without
traffic does not keep an old status.

Attempts may arrive in any order. A late attempt counts as of the newest sample, so that samples stay in the order of
time and their weight can be kept as a running sum; an attempt that is later than ``evidence_ttl`` is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"

# The weight of an outcome against the provider. A rejected recipient is no evidence; a missing response weighs more
# than an error, because it may cost a duplicate.
FAILURE_WEIGHT = {"accepted": 0.0, "provider_fault": 1.0, "unknown": 1.5}


class HealthThresholds(BaseModel):
    """The thresholds of the circuit breaker. Durations are seconds, rates are shares of 1."""

    model_config = ConfigDict(frozen=True)

    window: int = Field(100, ge=1, description="newest attempts that are evaluated")
    evidence_ttl: float = Field(600.0, gt=0, description="age at which an attempt stops counting")
    min_samples: int = Field(20, ge=1, description="attempts below which the error rate is not evaluated")
    degraded_error_rate: float = Field(0.05, gt=0, lt=1, description="error rate from which a provider is degraded")
    unhealthy_error_rate: float = Field(0.25, gt=0, lt=1, description="error rate above which a provider is unhealthy")
    consecutive_failures: int = Field(5, ge=1, description="failures in a row that make a provider unhealthy")
    initial_backoff: float = Field(5.0, gt=0, description="first pause before a probe; doubles with each failed probe")
    max_backoff: float = Field(60.0, gt=0, description="longest pause before a probe")
    probe_successes: int = Field(3, ge=1, description="accepted probes that make a provider healthy again")
    auth_suspension: float = Field(
        60.0, gt=0, description="suspension after refused credentials; doubles up to an hour"
    )
    auth_grace: float = Field(
        60.0, ge=0, description="time after a success in which one refusal does not suspend the account"
    )
    auth_failures_to_suspend: int = Field(
        3, ge=1, description="consecutive refusals that suspend an account within auth_grace"
    )
    unresponsive_ttl: float = Field(
        15.0, ge=0, description="time after a report in which an unresponsive provider is degraded"
    )
    default_throttle: float = Field(5.0, gt=0, description="pause after a throttled attempt without Retry-After")


@dataclass(frozen=True, slots=True)
class Attempt:
    """The input of the breaker. ``outcome`` is the event's: that of an attempt, or ``unresponsive``."""

    occurred_at: datetime
    outcome: str
    retry_after: timedelta | None = None


Samples: TypeAlias = tuple[tuple[datetime, float], ...]
"""The attempts in the evidence window, oldest first: time and weight."""


class ProviderStats(NamedTuple):
    """The statistics of one provider."""

    samples: Samples = ()
    weight: float = 0.0  # of all samples
    consecutive_failures: int = 0  # since the last success among the samples
    status: str = HEALTHY
    reason: str = ""
    openings: int = 0  # consecutive ones; sets the back-off
    probe_successes: int = 0
    auth_failures: int = 0  # consecutive ones
    probe_at: datetime | None = None
    suspended_until: datetime | None = None
    unresponsive_at: datetime | None = None  # time of the newest report; None after the next response

    @property
    def error_rate(self) -> float:
        """Weight of the failures among the samples, as a share of 1; an unknown outcome weighs 1.5."""
        return min(1.0, self.weight / len(self.samples)) if self.samples else 0.0


def observe(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, jitter: float = 1.0) -> ProviderStats:
    """The statistics after one more attempt. ``jitter`` (0.5 … 1) shortens the back-off, so that probes spread."""
    if (
        stats.unresponsive_at is not None
        and attempt.occurred_at > stats.unresponsive_at
        and attempt.outcome not in ("unresponsive", "unknown")
    ):
        stats = _with_status(stats._replace(unresponsive_at=None), thresholds)
    match attempt.outcome:
        case "unresponsive":
            return _with_status(
                stats._replace(unresponsive_at=_latest(stats.unresponsive_at, attempt.occurred_at)), thresholds
            )
        case "auth_failed":
            return _suspend(stats, attempt.occurred_at, thresholds)
        case "throttled":
            pause = attempt.retry_after or timedelta(seconds=thresholds.default_throttle)
            return stats._replace(suspended_until=_latest(stats.suspended_until, attempt.occurred_at + pause))
        case "accepted" | "provider_fault" | "unknown":
            if stats.samples and _has_expired(attempt.occurred_at, stats.samples[-1][0], thresholds.evidence_ttl):
                return stats
            return _evaluate(_count(stats, attempt, thresholds), attempt, thresholds, jitter)
        case _:
            return stats


def decay(stats: ProviderStats, now: datetime, thresholds: HealthThresholds) -> ProviderStats:
    """The statistics at ``now``: expired evidence is dropped, and with it a status that rests on it alone."""
    samples, evicted = _evict(stats.samples, now, thresholds, thresholds.window)
    unresponsive_at = stats.unresponsive_at
    if unresponsive_at is not None and _has_expired(unresponsive_at, now, thresholds.unresponsive_ttl):
        unresponsive_at = None
    if len(samples) == len(stats.samples) and unresponsive_at == stats.unresponsive_at:
        return stats
    return _with_status(
        stats._replace(
            samples=samples,
            weight=stats.weight - evicted,
            consecutive_failures=min(stats.consecutive_failures, len(samples)),
            unresponsive_at=unresponsive_at,
        ),
        thresholds,
    )


def _evict(samples: Samples, now: datetime, thresholds: HealthThresholds, limit: int) -> tuple[Samples, float]:
    """The newest ``limit`` samples that have not expired, and the weight of the others."""
    excess = len(samples) - limit
    count, weight = 0, 0.0
    while count < len(samples) and (count < excess or _has_expired(samples[count][0], now, thresholds.evidence_ttl)):
        weight += samples[count][1]
        count += 1
    return samples[count:], weight


def _has_expired(at: datetime, now: datetime, ttl: float) -> bool:
    return (now - at).total_seconds() >= ttl


def _count(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds) -> ProviderStats:
    weight = FAILURE_WEIGHT[attempt.outcome]
    at = max(attempt.occurred_at, stats.samples[-1][0]) if stats.samples else attempt.occurred_at
    samples, evicted = _evict(stats.samples, at, thresholds, thresholds.window - 1)
    return stats._replace(
        samples=(*samples, (at, weight)),
        weight=stats.weight - evicted + weight,
        consecutive_failures=min(stats.consecutive_failures, len(samples)) + 1 if weight else 0,
        auth_failures=0,
    )


def _evaluate(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, jitter: float) -> ProviderStats:
    failed = attempt.outcome != "accepted"
    if stats.status == UNHEALTHY:
        return _evaluate_probe(stats, attempt, thresholds, jitter, failed=failed)
    if failed and stats.consecutive_failures >= thresholds.consecutive_failures:
        return _open(
            stats, attempt.occurred_at, f"{stats.consecutive_failures} consecutive failures", thresholds, jitter
        )
    if failed and len(stats.samples) >= thresholds.min_samples and stats.error_rate > thresholds.unhealthy_error_rate:
        return _open(stats, attempt.occurred_at, _describe_error_rate(stats), thresholds, jitter)
    return _with_status(stats, thresholds)


def _evaluate_probe(
    stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, jitter: float, *, failed: bool
) -> ProviderStats:
    if stats.probe_at is not None and attempt.occurred_at < stats.probe_at:
        return stats  # the response to a call that started before the breaker opened
    if failed:
        return _open(stats, attempt.occurred_at, "a probe failed", thresholds, jitter)
    if stats.probe_successes + 1 < thresholds.probe_successes:
        return stats._replace(probe_successes=stats.probe_successes + 1)
    return ProviderStats(suspended_until=stats.suspended_until)


def _open(
    stats: ProviderStats, at: datetime, reason: str, thresholds: HealthThresholds, jitter: float
) -> ProviderStats:
    pause = min(thresholds.max_backoff, thresholds.initial_backoff * 2**stats.openings) * jitter
    return stats._replace(
        status=UNHEALTHY,
        reason=reason,
        openings=min(stats.openings + 1, 16),
        probe_successes=0,
        probe_at=at + timedelta(seconds=pause),
    )


def _suspend(stats: ProviderStats, at: datetime, thresholds: HealthThresholds) -> ProviderStats:
    """The statistics after refused credentials: the account is suspended.

    Within ``auth_grace`` of a success one refusal is more likely caused by a sender that the account may not use, so
    only several consecutive ones suspend it.
    """
    successes = len(stats.samples) - stats.consecutive_failures  # samples up to the last success
    worked = successes > 0 and at - stats.samples[successes - 1][0] < timedelta(seconds=thresholds.auth_grace)
    if worked and stats.auth_failures + 1 < thresholds.auth_failures_to_suspend:
        return stats._replace(auth_failures=stats.auth_failures + 1)
    suspensions = stats.auth_failures if not worked else stats.auth_failures + 1 - thresholds.auth_failures_to_suspend
    pause = min(3600.0, thresholds.auth_suspension * 2**suspensions)
    return stats._replace(
        status=UNHEALTHY,
        reason="credentials or account refused",
        auth_failures=min(stats.auth_failures + 1, 16),
        probe_successes=0,
        probe_at=at + timedelta(seconds=pause),
        suspended_until=_latest(stats.suspended_until, at + timedelta(seconds=pause)),
    )


def _with_status(stats: ProviderStats, thresholds: HealthThresholds) -> ProviderStats:
    """With the status that follows from the evidence; an unhealthy provider recovers by probes only."""
    if stats.status == UNHEALTHY:
        return stats
    if len(stats.samples) >= thresholds.min_samples and stats.error_rate >= thresholds.degraded_error_rate:
        return stats._replace(status=DEGRADED, reason=_describe_error_rate(stats))
    if stats.unresponsive_at is not None:
        return stats._replace(status=DEGRADED, reason="unresponsive: no call ends")
    return stats if stats.status == HEALTHY else stats._replace(status=HEALTHY, reason="")


def _describe_error_rate(stats: ProviderStats) -> str:
    return f"{stats.error_rate:.0%} errors in the last {len(stats.samples)} attempts"


def _latest(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
