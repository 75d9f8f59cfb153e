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
WEIGHT = {"accepted": 0.0, "provider_fault": 1.0, "unknown": 1.5}


class Thresholds(BaseModel):
    """The published defaults of the verdict. Durations are seconds, shares are of 1."""

    model_config = ConfigDict(frozen=True)

    window: int = Field(100, ge=1, description="attempts that are looked at")
    memory: float = Field(600.0, gt=0, description="attempts older than this are forgotten")
    least: int = Field(20, ge=1, description="attempts below which a share says nothing")
    degraded: float = Field(0.05, gt=0, lt=1, description="error share from which a provider is degraded")
    unhealthy: float = Field(0.25, gt=0, lt=1, description="error share above which a provider is unhealthy")
    consecutive: int = Field(5, ge=1, description="failures in a row that make a provider unhealthy")
    back_off: float = Field(5.0, gt=0, description="first pause before a probe; doubles with each failed probe")
    longest_back_off: float = Field(60.0, gt=0)
    probes: int = Field(3, ge=1, description="accepted probes that make a provider healthy again")
    auth_hold: float = Field(60.0, gt=0, description="pause after refused credentials; doubles up to an hour")
    auth_trust: float = Field(60.0, ge=0, description="for so long after a success one refusal is not the account's")
    auth_in_a_row: int = Field(3, ge=1, description="refusals in a row that park an account which has just worked")
    silence: float = Field(15.0, ge=0, description="for so long a provider that gave no answer at all is degraded")
    throttle_hold: float = Field(5.0, gt=0, description="pause after a throttle that named none")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the verdict looks at; ``outcome`` is the word in the event: that of an attempt, or ``silent``."""

    at: datetime
    outcome: str
    retry_after: timedelta | None = None


Recent: TypeAlias = tuple[tuple[datetime, float], ...]
"""Attempts that are remembered, in the order of time: when, and how much it counted."""


class Record(NamedTuple):
    """What is known of one provider."""

    recent: Recent = ()
    weight: float = 0.0  # of all the recent ones
    in_a_row: int = 0  # failures since the last success among them
    verdict: str = HEALTHY
    reason: str = ""
    trips: int = 0  # times in a row it went out; sets the back-off
    good_probes: int = 0
    refusals: int = 0  # refused credentials in a row
    probe_at: datetime | None = None
    hold_until: datetime | None = None
    silent_at: datetime | None = None  # a worker's calls had no answer; None again after the first one

    @property
    def error_rate(self) -> float:
        """Share of the recent attempts that counted as failures; an unknown one counts more than once."""
        return min(1.0, self.weight / len(self.recent)) if self.recent else 0.0


def observe(record: Record, attempt: Attempt, limits: Thresholds, jitter: float = 1.0) -> Record:
    """The record after one more attempt. ``jitter`` (0.5 … 1) spreads the probes of several installations."""
    if record.silent_at is not None and attempt.at > record.silent_at and attempt.outcome not in ("silent", "unknown"):
        record = _judged(record._replace(silent_at=None), limits)
    match attempt.outcome:
        case "silent":
            return _judged(record._replace(silent_at=_later(record.silent_at, attempt.at)), limits)
        case "auth_failed":
            return _refused(record, attempt.at, limits)
        case "throttled":
            hold = attempt.retry_after or timedelta(seconds=limits.throttle_hold)
            return record._replace(hold_until=_later(record.hold_until, attempt.at + hold))
        case "accepted" | "provider_fault" | "unknown":
            if record.recent and _is_old(attempt.at, record.recent[-1][0], limits.memory):
                return record
            return _judge(_count(record, attempt, limits), attempt, limits, jitter)
        case _:
            return record


def at_time(record: Record, now: datetime, limits: Thresholds) -> Record:
    """The record as time passes: old evidence is forgotten, and with it a verdict that rests on it alone."""
    recent, lost = _remembered(record.recent, now, limits, limits.window)
    silent_at = record.silent_at
    if silent_at is not None and _is_old(silent_at, now, limits.silence):
        silent_at = None
    if len(recent) == len(record.recent) and silent_at == record.silent_at:
        return record
    in_a_row = min(record.in_a_row, len(recent))
    weight = record.weight - lost
    return _judged(record._replace(recent=recent, weight=weight, in_a_row=in_a_row, silent_at=silent_at), limits)


def _remembered(recent: Recent, now: datetime, limits: Thresholds, most: int) -> tuple[Recent, float]:
    """At most the ``most`` last, without those that are too old; and the weight of those that are gone."""
    excess = len(recent) - most
    gone, lost = 0, 0.0
    while gone < len(recent) and (gone < excess or _is_old(recent[gone][0], now, limits.memory)):
        lost += recent[gone][1]
        gone += 1
    return recent[gone:], lost


def _is_old(at: datetime, now: datetime, memory: float) -> bool:
    return (now - at).total_seconds() >= memory


def _count(record: Record, attempt: Attempt, limits: Thresholds) -> Record:
    weight = WEIGHT[attempt.outcome]
    at = max(attempt.at, record.recent[-1][0]) if record.recent else attempt.at
    recent, lost = _remembered(record.recent, at, limits, limits.window - 1)
    return record._replace(
        recent=(*recent, (at, weight)),
        weight=record.weight - lost + weight,
        in_a_row=min(record.in_a_row, len(recent)) + 1 if weight else 0,
        refusals=0,
    )


def _judge(record: Record, attempt: Attempt, limits: Thresholds, jitter: float) -> Record:
    failed = attempt.outcome != "accepted"
    if record.verdict == UNHEALTHY:
        return _judge_probe(record, attempt, limits, jitter, failed=failed)
    if failed and record.in_a_row >= limits.consecutive:
        return _trip(record, attempt.at, f"{record.in_a_row} failures in a row", limits, jitter)
    if failed and len(record.recent) >= limits.least and record.error_rate > limits.unhealthy:
        return _trip(record, attempt.at, _share(record), limits, jitter)
    return _judged(record, limits)


def _judge_probe(record: Record, attempt: Attempt, limits: Thresholds, jitter: float, *, failed: bool) -> Record:
    if record.probe_at is not None and attempt.at < record.probe_at:
        return record  # an answer to a call from before it went out
    if failed:
        return _trip(record, attempt.at, "a probe failed", limits, jitter)
    if record.good_probes + 1 < limits.probes:
        return record._replace(good_probes=record.good_probes + 1)
    return Record(hold_until=record.hold_until)


def _trip(record: Record, at: datetime, reason: str, limits: Thresholds, jitter: float) -> Record:
    pause = min(limits.longest_back_off, limits.back_off * 2**record.trips) * jitter
    return record._replace(
        verdict=UNHEALTHY,
        reason=reason,
        trips=min(record.trips + 1, 16),
        good_probes=0,
        probe_at=at + timedelta(seconds=pause),
    )


def _refused(record: Record, at: datetime, limits: Thresholds) -> Record:
    """Refused credentials park the account at once. But where it has just taken other messages, one refusal is
    more likely about a sender that it may not use, and only several in a row say otherwise.
    """
    successes = len(record.recent) - record.in_a_row  # up to and with the last one
    worked = successes > 0 and at - record.recent[successes - 1][0] < timedelta(seconds=limits.auth_trust)
    if worked and record.refusals + 1 < limits.auth_in_a_row:
        return record._replace(refusals=record.refusals + 1)
    before = record.refusals if not worked else record.refusals + 1 - limits.auth_in_a_row
    pause = min(3600.0, limits.auth_hold * 2**before)
    return record._replace(
        verdict=UNHEALTHY,
        reason="credentials or account refused",
        refusals=min(record.refusals + 1, 16),
        good_probes=0,
        probe_at=at + timedelta(seconds=pause),
        hold_until=_later(record.hold_until, at + timedelta(seconds=pause)),
    )


def _judged(record: Record, limits: Thresholds) -> Record:
    """With the verdict that follows from what is remembered; who is out comes back by probes only."""
    if record.verdict == UNHEALTHY:
        return record
    if len(record.recent) >= limits.least and record.error_rate >= limits.degraded:
        return record._replace(verdict=DEGRADED, reason=_share(record))
    if record.silent_at is not None:
        return record._replace(verdict=DEGRADED, reason="no call is answered")
    return record if record.verdict == HEALTHY else record._replace(verdict=HEALTHY, reason="")


def _share(record: Record) -> str:
    return f"{record.error_rate:.0%} errors in the last {len(record.recent)} sends"


def _later(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
