"""The seed rule: a provider's status from its last 100 attempts.

Healthy below 5 % errors, degraded up to 25 %, unhealthy above that or after consecutive failures. An unhealthy provider
gets no message for ``out_for`` seconds and begins again with no evidence. Projects that need a rule whose numbers they
can recount choose it by name; it knows neither slow calls nor destinations, and its evidence has no clock.

Recipients' faults do not count. Unlike the circuit breaker, each failure weighs the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from sluice.health.breaker import DEGRADED, HEALTHY, UNHEALTHY, Attempt

_FAILED = {"accepted": False, "provider_fault": True, "unknown": True, "auth_failed": True}


class SeedThresholds(BaseModel):
    """The thresholds of the seed rule. Durations are seconds, rates are shares of 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: int = Field(100, ge=1, le=10_000, description="newest attempts that are evaluated")
    degraded_error_rate: float = Field(0.05, gt=0, lt=1, description="error rate from which a provider is degraded")
    unhealthy_error_rate: float = Field(0.25, gt=0, lt=1, description="error rate above which a provider is unhealthy")
    min_samples: int = Field(20, ge=1, description="attempts below which no rate makes a provider unhealthy")
    consecutive_failures: int = Field(5, ge=1, description="failures in a row that make a provider unhealthy")
    out_for: float = Field(60.0, gt=0, description="time in which an unhealthy provider gets no message")


class SeedStats(NamedTuple):
    """The newest attempts of a provider and its status by the seed rule."""

    newest: int = 0  # a bit for each attempt, the newest lowest; 1: failed
    attempts: int = 0  # the number of bits
    consecutive_failures: int = 0
    status: str = HEALTHY
    reason: str = ""
    out_until: datetime | None = None  # unhealthy: the end of its pause
    error_rate: float = 0.0
    ejected_at: datetime | None = None  # unhealthy: since when
    trials: int = 0  # with a trial: those that have ended since the provider is unhealthy


def observe(stats: SeedStats, attempt: Attempt, thresholds: SeedThresholds, *, trial: bool = False) -> SeedStats:
    """The statistics after one more attempt.

    ``trial``: after its pause, the first attempt alone decides whether the provider is healthy or pauses again.
    """
    failed = _FAILED.get(attempt.outcome)
    if failed is None:
        return stats
    if stats.out_until is not None:
        if attempt.occurred_at < stats.out_until:
            return stats  # the end of an earlier call, or one that was made for lack of another provider
        if trial:
            return _eject(stats, attempt.occurred_at, "a trial failed", thresholds) if failed else SeedStats()
        stats = SeedStats()
    attempts = min(stats.attempts + 1, thresholds.window)
    newest = (stats.newest << 1 | failed) & ((1 << attempts) - 1)
    in_a_row = stats.consecutive_failures + 1 if failed else 0
    failures = newest.bit_count()
    rate = failures / attempts
    reason = f"{failures} of {attempts} attempts failed"
    stats = SeedStats(newest, attempts, in_a_row, HEALTHY, "", None, rate)
    if failed and in_a_row >= thresholds.consecutive_failures:
        return _eject(stats, attempt.occurred_at, f"{in_a_row} consecutive failures", thresholds)
    if failed and rate > thresholds.unhealthy_error_rate and attempts >= thresholds.min_samples:
        return _eject(stats, attempt.occurred_at, reason, thresholds)
    return stats._replace(status=DEGRADED, reason=reason) if rate >= thresholds.degraded_error_rate else stats


def _eject(stats: SeedStats, at: datetime, reason: str, thresholds: SeedThresholds) -> SeedStats:
    return SeedStats(
        status=UNHEALTHY,
        reason=reason,
        out_until=at + timedelta(seconds=thresholds.out_for),
        error_rate=stats.error_rate,
        ejected_at=stats.ejected_at or at,
        trials=stats.trials + 1,
    )
