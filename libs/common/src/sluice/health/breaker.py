"""The circuit breaker: the pure function from a provider's attempts to its health status.

Evidence loses its weight with time, half of it in ``half_life`` seconds, so that it neither freezes when the traffic
leaves nor outlives the night. Only the provider's own faults count. A provider leaves *healthy* by its error rate, by
consecutive failures, by refused credentials, by slow calls, or because its calls do not end; it returns by probes only:
real messages, one at a time, which fail over at once. An *unhealthy* provider is probed after a pause that doubles, a
*degraded* one every few seconds. After its return its share of the traffic grows over ``ramp`` seconds.

A destination (a country, a mail domain) in which a provider fails has statistics of its own: as long as it is not
healthy, its attempts do not count against the provider elsewhere. A provider that has accepted next to nothing
elsewhere since then, or that fails several times in a row wherever the messages go, is itself at fault.

Attempts may arrive in any order. A late attempt has the weight of its age; a very late one is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"

# The weight of an outcome against the provider. A rejected recipient is no evidence; a missing response weighs more
# than an error, because it may cost a duplicate.
FAILURE_WEIGHT = {"accepted": 0.0, "provider_fault": 1.0, "unknown": 1.5}
_IN_A_ROW = {"provider_fault": 1, "unknown": 2}

_PRIOR_ATTEMPTS, _PRIOR_RATE = 10.0, 0.02  # evidence that every provider begins with
_MAX_OPENINGS = 16
_MAX_DESTINATIONS = 32  # of one provider; the one that failed longest ago is dropped first
LEAST_ELSEWHERE = 3
"""Successes at other destinations that make a fault one of the destination."""
_LATENCY_WEIGHT = 0.02  # of the newest call in the usual latency
_MIN_SLOW_ATTEMPTS = 8.0
_LEAST_WEIGHT = 0.01  # of an attempt that counts
_PROBATION_FAILURES = 2  # in a row, shortly after a return
_PROBATION_RATE = 0.7  # of the error rate of a degraded provider
_ERRORS, _SLOW, _UNRESPONSIVE = "errors", "slow", "unresponsive"  # causes of being degraded


class HealthThresholds(BaseModel):
    """The thresholds of the circuit breaker. Durations are seconds, rates are shares of 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life: float = Field(30.0, gt=0, description="time after which an attempt has half its weight")
    min_samples: float = Field(20.0, ge=1, description="weight of the attempts below which no rate is evaluated")
    degraded_error_rate: float = Field(0.06, gt=0, lt=1, description="error rate from which a provider is degraded")
    unhealthy_error_rate: float = Field(0.25, gt=0, lt=1, description="error rate above which a provider is unhealthy")
    consecutive_failures: int = Field(
        5, ge=1, description="failures in a row that make a provider unhealthy; a call without a response counts twice"
    )
    slow_call: float = Field(1.5, gt=0, description="shortest duration of a slow call")
    slow_call_multiple: float = Field(5.0, ge=1, description="multiple of the usual latency from which a call is slow")
    consecutive_slow_calls: int = Field(5, ge=1, description="slow calls in a row that make a provider degraded")
    slow_call_share: float = Field(
        0.5, gt=0, lt=1, description="share of slow calls above which a provider is degraded"
    )
    initial_backoff: float = Field(5.0, gt=0, description="first pause before a probe; doubles with each failed probe")
    max_backoff: float = Field(60.0, gt=0, description="longest pause before a probe")
    forgive_after: float = Field(120.0, gt=0, description="healthy time after which the pause is halved again")
    probe_successes: int = Field(3, ge=1, description="accepted probes that make an unhealthy provider healthy again")
    relapse_hold: float = Field(
        10.0, ge=0, description="time of successful probes that each recent relapse adds before the next return"
    )
    max_relapse_hold: float = Field(30.0, ge=0, description="longest such time")
    degraded_probe_interval: float = Field(6.0, gt=0, description="pause between two probes of a degraded provider")
    degraded_probe_successes: int = Field(
        8, ge=1, description="accepted, not slow probes in a row that make a degraded provider healthy again"
    )
    ramp: float = Field(20.0, ge=0, description="time in which a provider that returns gets its whole share again")
    auth_suspension: float = Field(
        60.0, gt=0, description="suspension after refused credentials; doubles up to an hour"
    )
    auth_grace: float = Field(
        60.0, ge=0, description="time after a success in which one refusal does not suspend the account"
    )
    auth_failures_to_suspend: int = Field(
        3, ge=1, description="consecutive refusals that suspend an account within auth_grace"
    )
    default_throttle: float = Field(5.0, gt=0, description="pause after a throttled attempt without Retry-After")


@dataclass(frozen=True, slots=True)
class Attempt:
    """The input of the breaker. ``outcome`` is the event's: that of an attempt, or ``unresponsive``.

    ``duration``: seconds of the call. ``destination``: where it went; "" for nowhere in particular.
    """

    occurred_at: datetime
    outcome: str
    retry_after: timedelta | None = None
    duration: float | None = None
    destination: str = ""


class ProviderStats(NamedTuple):
    """The statistics of a provider, or of one destination of it. Numbers of attempts are weights at ``counted_at``."""

    calls: float = 0.0
    failures: float = 0.0
    slow_calls: float = 0.0
    counted_at: datetime | None = None
    usual_latency: float | None = None  # seconds; geometric mean of the calls that were not slow
    consecutive_failures: int = 0  # of a provider: at any destination
    consecutive_slow_calls: int = 0
    status: str = HEALTHY
    reason: str = ""
    cause: str = ""  # degraded: errors, slow, unresponsive
    changed_at: datetime | None = None  # when the status was reached
    openings: int = 0  # recent ones; sets the back-off
    relapses: int = 0  # returns that did not last
    probe_successes: int = 0  # in a row
    recovering_since: datetime | None = None  # the first of them
    probe_results: int = 0  # probes that have ended since the status was reached
    auth_failures: int = 0  # consecutive ones
    succeeded_at: datetime | None = None
    successes: int = 0  # of a provider: at any destination; of a destination: since it has statistics
    successes_before: int = 0  # of the provider, when the destination got its statistics
    probe_at: datetime | None = None
    suspended_until: datetime | None = None
    destinations: Mapping[str, ProviderStats] = {}

    @property
    def error_rate(self) -> float:
        """Weight of the failures as a share of the attempts, 1 at most; an unknown outcome weighs 1.5."""
        expected = _PRIOR_ATTEMPTS * _PRIOR_RATE
        return min(1.0, (self.failures + expected) / (self.calls + _PRIOR_ATTEMPTS))


def observe(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, jitter: float = 1.0) -> ProviderStats:
    """The statistics after one more attempt. ``jitter`` (0.5 … 1) shortens the back-off, so that probes spread."""
    match attempt.outcome:
        case "unresponsive":
            return _degrade(stats, attempt.occurred_at, "unresponsive: no call ends", _UNRESPONSIVE, thresholds)
        case "probe_requested":
            return _probe_now(stats, attempt.occurred_at)
        case "auth_failed":
            return _suspend(stats, attempt.occurred_at, thresholds)
        case "throttled":
            pause = attempt.retry_after or timedelta(seconds=thresholds.default_throttle)
            return stats._replace(suspended_until=_latest(stats.suspended_until, attempt.occurred_at + pause))
        case "accepted" | "provider_fault" | "unknown":
            if _weight(stats, attempt, thresholds) < _LEAST_WEIGHT:
                return stats
            return _observe_call(stats, attempt, thresholds, jitter)
        case _:
            return stats


def _probe_now(stats: ProviderStats, at: datetime) -> ProviderStats:
    """The statistics when the next message probes the provider.

    A suspension after refused credentials ends, since the account may have been repaired. The pauses begin again:
    a worker that does not have the new credentials yet costs the first of them, and not the hour of before.
    """
    if stats.status == HEALTHY:
        return stats
    until = None if stats.auth_failures else stats.suspended_until
    probe_at = at if stats.probe_at is None else min(at, stats.probe_at)
    return stats._replace(probe_at=probe_at, suspended_until=until, auth_failures=0)


def _observe_call(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, jitter: float) -> ProviderStats:
    was = stats.destinations.get(attempt.destination)
    only_probed = was is not None and was.status == UNHEALTHY
    if attempt.outcome == "accepted":
        stats = stats._replace(consecutive_failures=0, successes=stats.successes + 1)
    elif not only_probed:
        stats = stats._replace(consecutive_failures=stats.consecutive_failures + _IN_A_ROW[attempt.outcome])
    there = _observe_destination(stats, attempt, thresholds, jitter)
    if there is not None:
        if there.status == HEALTHY:
            stats = _with_destination(stats, attempt.destination, there)
        elif only_probed or _works_elsewhere(stats, there, thresholds):
            # What is wrong there is no evidence elsewhere: neither this attempt nor those before it.
            stats = stats if was is not None and was.status != HEALTHY else _without(stats, was, thresholds)
            return _with_destination(stats, attempt.destination, there)
    return _evaluate(_count(stats, attempt, thresholds), attempt, thresholds, jitter)


def _works_elsewhere(stats: ProviderStats, there: ProviderStats, thresholds: HealthThresholds) -> bool:
    elsewhere = stats.successes - there.successes_before - there.successes
    return elsewhere >= LEAST_ELSEWHERE and stats.consecutive_failures < thresholds.consecutive_failures


def _observe_destination(
    stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, jitter: float
) -> ProviderStats | None:
    """The statistics of the attempt's destination; None without a destination in which the provider has failed."""
    known = stats.destinations.get(attempt.destination)
    if not attempt.destination or stats.status == UNHEALTHY or stats.cause in (_SLOW, _UNRESPONSIVE):
        return None  # the provider's whole state is bad
    if known is None and attempt.outcome == "accepted":
        return None
    elsewhere = replace(attempt, destination="")
    new = ProviderStats(usual_latency=stats.usual_latency, successes_before=stats.successes)
    return _observe_call(known or new, elsewhere, thresholds, jitter)


def _with_destination(stats: ProviderStats, destination: str, found: ProviderStats) -> ProviderStats:
    others = {name: each for name, each in stats.destinations.items() if name != destination}
    while len(others) >= _MAX_DESTINATIONS:
        del others[next(iter(others))]
    return stats._replace(destinations={**others, destination: found})


def _without(stats: ProviderStats, there: ProviderStats | None, thresholds: HealthThresholds) -> ProviderStats:
    """Without the attempts at a destination that has just become worse than the provider."""
    if there is None:
        return stats
    stats = stats._replace(
        calls=max(0.0, stats.calls - there.calls),
        failures=max(0.0, stats.failures - there.failures),
        slow_calls=max(0.0, stats.slow_calls - there.slow_calls),
    )
    if stats.cause == _ERRORS and stats.error_rate < thresholds.degraded_error_rate:
        return stats._replace(status=HEALTHY, reason="", cause="")
    return stats


def decay(stats: ProviderStats, now: datetime, thresholds: HealthThresholds) -> ProviderStats:
    """The statistics at ``now``."""
    if stats.counted_at is None or now <= stats.counted_at:
        return stats
    factor = 0.5 ** ((now - stats.counted_at).total_seconds() / thresholds.half_life)
    return stats._replace(
        calls=stats.calls * factor,
        failures=stats.failures * factor,
        slow_calls=stats.slow_calls * factor,
        counted_at=now,
    )


def _count(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds) -> ProviderStats:
    failure = FAILURE_WEIGHT[attempt.outcome]
    stats, weight = decay(stats, attempt.occurred_at, thresholds), _weight(stats, attempt, thresholds)
    slow = _is_slow(stats, attempt, thresholds)
    usual = stats.usual_latency
    if attempt.duration and attempt.outcome == "accepted" and not slow:
        usual = attempt.duration if usual is None else usual * (attempt.duration / usual) ** _LATENCY_WEIGHT
    return stats._replace(
        calls=stats.calls + weight,
        failures=stats.failures + failure * weight,
        slow_calls=stats.slow_calls + slow * weight,
        counted_at=stats.counted_at or attempt.occurred_at,
        usual_latency=usual,
        consecutive_slow_calls=stats.consecutive_slow_calls + 1 if slow else 0,
        auth_failures=0,
        succeeded_at=stats.succeeded_at if failure else _latest(stats.succeeded_at, attempt.occurred_at),
    )


def _weight(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds) -> float:
    """1, or less for an attempt that is older than the newest one."""
    if stats.counted_at is None or attempt.occurred_at >= stats.counted_at:
        return 1.0
    age: float = (stats.counted_at - attempt.occurred_at).total_seconds() / thresholds.half_life
    return math.pow(0.5, age)


def _is_slow(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds) -> bool:
    if attempt.duration is None:
        return False
    usual = stats.usual_latency or 0.0
    return attempt.duration > max(thresholds.slow_call, thresholds.slow_call_multiple * usual)


def _evaluate(stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, jitter: float) -> ProviderStats:
    failed, at = attempt.outcome != "accepted", attempt.occurred_at
    if stats.status != HEALTHY and not _began_after(attempt, stats.changed_at):
        return stats  # the end of a call that began before
    if stats.status == UNHEALTHY:
        return _evaluate_probe(stats, attempt, thresholds, jitter, failed=failed)
    probation = _is_on_probation(stats, at, thresholds)
    # At a high volume two failures in a row are chance: on probation, the rate has to be raised as well.
    suspicious = probation and stats.error_rate >= _PROBATION_RATE * thresholds.degraded_error_rate
    in_a_row = min(_PROBATION_FAILURES if suspicious else math.inf, thresholds.consecutive_failures)
    if failed and stats.consecutive_failures >= in_a_row:
        return _open(stats, at, f"{stats.consecutive_failures} consecutive failures", thresholds, jitter)
    if stats.status == DEGRADED:
        return _evaluate_degraded(stats, attempt, thresholds, failed=failed)
    if stats.calls < (thresholds.min_samples / 2 if probation else thresholds.min_samples):
        enough = stats.calls >= _MIN_SLOW_ATTEMPTS
    else:
        enough = True
        if failed and stats.error_rate > thresholds.unhealthy_error_rate:
            return _open(stats, at, _describe_error_rate(stats), thresholds, jitter)
        if failed and stats.error_rate >= thresholds.degraded_error_rate:
            return _degrade(stats, at, _describe_error_rate(stats), _ERRORS, thresholds)
    if stats.consecutive_slow_calls >= thresholds.consecutive_slow_calls:
        return _degrade(stats, at, f"{stats.consecutive_slow_calls} slow calls in a row", _SLOW, thresholds)
    if enough and stats.slow_calls > thresholds.slow_call_share * stats.calls:
        return _degrade(stats, at, f"{stats.slow_calls / stats.calls:.0%} slow calls", _SLOW, thresholds)
    return stats


def _is_on_probation(stats: ProviderStats, at: datetime, thresholds: HealthThresholds) -> bool:
    """Whether the provider has returned a short time ago: a relapse needs less evidence than a first fault."""
    if stats.status != HEALTHY or stats.changed_at is None:
        return False
    return at - stats.changed_at < timedelta(seconds=thresholds.forgive_after)


def _began_after(attempt: Attempt, at: datetime | None) -> bool:
    began = attempt.occurred_at - timedelta(seconds=attempt.duration or 0.0)
    return at is None or began >= at


def _evaluate_probe(
    stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, jitter: float, *, failed: bool
) -> ProviderStats:
    if stats.probe_at is not None and attempt.occurred_at < stats.probe_at:
        return stats
    stats = stats._replace(probe_results=stats.probe_results + 1)
    if failed:
        # While a provider is held, many probes are sent, of which a few fail at any provider.
        held = stats.probe_successes >= thresholds.probe_successes
        if held and stats.consecutive_failures < _PROBATION_FAILURES:
            return stats
        return _open(stats, attempt.occurred_at, "a probe failed", thresholds, jitter)
    at, successes = attempt.occurred_at, stats.probe_successes + 1
    since = stats.recovering_since or at
    hold = min(thresholds.max_relapse_hold, stats.relapses * thresholds.relapse_hold)
    if successes < thresholds.probe_successes or at - since < timedelta(seconds=hold):
        return stats._replace(probe_successes=successes, recovering_since=since)
    return _close(stats, at)


def _evaluate_degraded(
    stats: ProviderStats, attempt: Attempt, thresholds: HealthThresholds, *, failed: bool
) -> ProviderStats:
    stats = stats._replace(probe_results=stats.probe_results + 1)
    good = not failed and not _is_slow(stats, attempt, thresholds)
    successes = stats.probe_successes + 1 if good else 0
    if successes >= thresholds.degraded_probe_successes:
        return _close(stats, attempt.occurred_at)
    if stats.calls >= thresholds.min_samples and stats.error_rate > thresholds.unhealthy_error_rate:
        return _open(stats, attempt.occurred_at, _describe_error_rate(stats), thresholds, 1.0)
    return stats._replace(probe_successes=successes)


def _close(stats: ProviderStats, at: datetime) -> ProviderStats:
    """Healthy again, without the evidence of before; the destinations as well."""
    return ProviderStats(
        usual_latency=stats.usual_latency,
        changed_at=at,
        openings=stats.openings,
        relapses=stats.relapses,
        succeeded_at=stats.succeeded_at,
        successes=stats.successes,
        successes_before=stats.successes_before,
        suspended_until=stats.suspended_until,
    )


def _degrade(
    stats: ProviderStats, at: datetime, reason: str, cause: str, thresholds: HealthThresholds
) -> ProviderStats:
    if stats.status != HEALTHY:
        return stats
    return stats._replace(
        status=DEGRADED,
        reason=reason,
        cause=cause,
        changed_at=at,
        probe_successes=0,
        probe_results=0,
        probe_at=at + timedelta(seconds=thresholds.degraded_probe_interval),
    )


def _open(
    stats: ProviderStats, at: datetime, reason: str, thresholds: HealthThresholds, jitter: float
) -> ProviderStats:
    openings, relapses = stats.openings, stats.relapses
    if stats.status == HEALTHY:
        relapses = min(relapses + 1, _MAX_OPENINGS) if _is_on_probation(stats, at, thresholds) else 0
    if stats.status == HEALTHY and stats.changed_at is not None:
        openings = max(0, openings - int((at - stats.changed_at).total_seconds() / thresholds.forgive_after))
    pause = min(thresholds.max_backoff, thresholds.initial_backoff * 2**openings) * jitter
    return stats._replace(
        status=UNHEALTHY,
        reason=reason,
        cause="",
        changed_at=stats.changed_at if stats.status == UNHEALTHY else at,
        openings=min(openings + 1, _MAX_OPENINGS),
        relapses=relapses,
        probe_successes=0,
        recovering_since=None,
        probe_at=at + timedelta(seconds=pause),
    )


def _suspend(stats: ProviderStats, at: datetime, thresholds: HealthThresholds) -> ProviderStats:
    """The statistics after refused credentials: the account is suspended.

    Within ``auth_grace`` of a success one refusal is more likely caused by a sender that the account may not use, so
    only several consecutive ones suspend it.
    """
    worked = stats.succeeded_at is not None and at - stats.succeeded_at < timedelta(seconds=thresholds.auth_grace)
    if worked and stats.auth_failures + 1 < thresholds.auth_failures_to_suspend:
        return stats._replace(auth_failures=stats.auth_failures + 1)
    suspensions = stats.auth_failures if not worked else stats.auth_failures + 1 - thresholds.auth_failures_to_suspend
    pause = min(3600.0, thresholds.auth_suspension * 2**suspensions)
    return stats._replace(
        status=UNHEALTHY,
        reason="credentials or account refused",
        changed_at=stats.changed_at if stats.status == UNHEALTHY else at,
        auth_failures=min(stats.auth_failures + 1, _MAX_OPENINGS),
        probe_successes=0,
        recovering_since=None,
        probe_at=at + timedelta(seconds=pause),
        suspended_until=_latest(stats.suspended_until, at + timedelta(seconds=pause)),
    )


def _describe_error_rate(stats: ProviderStats) -> str:
    return f"{stats.error_rate:.0%} errors in about {math.floor(stats.calls)} recent attempts"


def _latest(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
