"""Silent loss: the pure function from a provider's receipts to whether they have stopped or fallen.

A sample of the accepted attempts waits for receipts. An attempt without one when its wait is over is *missing*; the
wait follows how long the provider's receipts usually take, so that slow receipts are no missing ones. Each sample is
counted at the end of its wait, confirmed or missing, because answers come sooner than their absence. A receipt that
blames the provider or its carrier (a late failure) confirms nothing either.

The test is Page's cumulative sum (Biometrika 41, 1954): the log-likelihood ratio of "half as many are confirmed as
usual" over "as many as usual", at least 0, with an alarm at :data:`ALARM`. It needs few samples where nearly all
receipts come and many where few do, and none is missed where none has ever come. The same sum with the two hypotheses
exchanged ends the alarm. A destination (a country, a mail domain) has a test of its own; where only it is silent, its
samples count nothing elsewhere.

The clock of the waits is passed in as ``clock``: the time in which events were read. ``now`` is the time of day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.health.breaker import DEGRADED, HEALTHY, LEAST_ELSEWHERE, HealthThresholds, ProviderStats

CAUSE = "receipts"  # of a degraded provider
ALARM = 20.0  # a false one in e^20 independent samples
_RELIEF = 4.0  # six confirmed samples in a row
RELIEF_SAMPLES = 6
_MIN_SAMPLES = 10  # before which a provider has no usual share
_MIN_USUAL = 0.2  # share of confirmed attempts below which nothing is concluded
_MAX_USUAL = 0.97
_MEMORY = 500  # samples behind the usual share
_MIN_WAIT, _MAX_WAIT = 180.0, 21_600.0  # seconds
_WAIT_MULTIPLE = 3.0  # of the usual delay
_MIN_SETTLE = 10.0  # seconds until a sample of a silent provider is counted; it was confirmed quickly before
_QUANTILE, _STEP = 0.95, 0.1  # of the delays; see _usual_delay
_SPACING = 256  # samples in one wait
_MAX_DESTINATIONS = 32
_SUSPECT = 3.0  # suspicion above which samples teach less, so that a loss does not become the usual share
_SUSPECT_WEIGHT = 0.2
_STOPPED = 7  # missing in a row
_RECENT = 20.0  # samples behind the numbers of the reason


class Sample(NamedTuple):
    """An accepted attempt that waits for a receipt."""

    at: datetime  # of the clock
    destination: str
    confirmed: bool = False
    failed: bool = False  # a receipt blames the provider
    counted: bool = False

    @property
    def good(self) -> bool:
        """Whether the sample speaks for the provider."""
        return self.confirmed and not self.failed


class Confirmation(NamedTuple):
    """The test of a provider or of one destination. ``recent`` numbers lose their weight with newer samples."""

    samples: float = 0.0  # at most _MEMORY
    usual_good: float = 0.0  # of them
    suspicion: float = 0.0
    recent: float = 0.0
    recent_good: float = 0.0
    recent_failed: float = 0.0
    missing: int = 0  # in a row
    counted_at: datetime | None = None  # the last sample, of the clock
    silent_since: datetime | None = None
    silent_from: datetime | None = None  # the same moment, of the clock
    relief: float = 0.0
    reason: str = ""
    resumed_at: datetime | None = None
    accepted: int = 0  # attempts since the silence was noticed

    @property
    def usual(self) -> float:
        """The usual share of confirmed attempts, with a prior of two in four."""
        return min(_MAX_USUAL, (self.usual_good + 2) / (self.samples + 4))

    @property
    def recent_share(self) -> float | None:
        """The share of confirmed attempts among the last ones."""
        return self.recent_good / self.recent if self.recent else None

    @property
    def established(self) -> bool:
        """Whether the provider has a past to compare with."""
        return self.samples >= _MIN_SAMPLES and self.usual >= _MIN_USUAL


class ReceiptStats(NamedTuple):
    """The receipts of a provider."""

    waiting: Mapping[UUID, Sample] = {}  # by delivery, oldest first
    sampled_at: datetime | None = None
    usual_delay: float | None = None  # seconds; an upper quantile
    overall: Confirmation = Confirmation()
    destinations: Mapping[str, Confirmation] = {}

    @property
    def wait(self) -> float:
        """Seconds after which an attempt without a receipt is missing."""
        return min(_MAX_WAIT, max(_MIN_WAIT, _WAIT_MULTIPLE * (self.usual_delay or 0.0)))

    @property
    def is_suspect(self) -> bool:
        """Whether an alarm would begin."""
        found = (self.overall, *self.destinations.values())
        return not self.silent and any(one.silent_since is None and one.suspicion >= ALARM for one in found)

    @property
    def silent(self) -> bool:
        """Whether the provider as a whole is silent."""
        return self.overall.silent_since is not None


def accept(stats: ReceiptStats, delivery_id: UUID, destination: str, clock: datetime) -> ReceiptStats:
    """The statistics after an accepted attempt: every one counts as a probe's end, some become samples."""
    stats = _count_accepted(stats, destination)
    spacing = timedelta(seconds=stats.wait / _SPACING)
    if stats.sampled_at is not None and clock - stats.sampled_at < spacing:
        return stats
    waiting = dict(stats.waiting)
    waiting.pop(delivery_id, None)
    waiting[delivery_id] = Sample(clock, destination)
    return stats._replace(waiting=waiting, sampled_at=clock)


def _count_accepted(stats: ReceiptStats, destination: str) -> ReceiptStats:
    if stats.silent:
        return stats._replace(overall=stats.overall._replace(accepted=stats.overall.accepted + 1))
    there = stats.destinations.get(destination)
    if there is None or there.silent_since is None:
        return stats
    return _with_destination(stats, destination, there._replace(accepted=there.accepted + 1))


def confirm(stats: ReceiptStats, delivery_id: UUID, clock: datetime, *, failed: bool = False) -> ReceiptStats:
    """The statistics after a receipt. ``failed``: it blames the provider for a message that does not arrive."""
    sample = stats.waiting.get(delivery_id)
    if sample is None or (sample.confirmed and sample.failed >= failed):
        return stats
    found = sample._replace(confirmed=True, failed=sample.failed or failed)
    if not sample.confirmed:
        delay = (clock - sample.at).total_seconds()
        stats = stats._replace(usual_delay=_usual_delay(stats.usual_delay, delay, late=sample.counted))
    if sample.counted and sample.good != found.good:
        stats = _recount(stats, sample.destination, found.good)
    return stats._replace(waiting={**stats.waiting, delivery_id: found})


def evaluate(stats: ReceiptStats, clock: datetime, now: datetime, *, hold: bool = False) -> ReceiptStats:
    """The statistics after the samples whose wait is over. ``hold``: the receipts of all providers fail together.

    The loss is then at this end, so no alarm begins.
    """
    due = {key: one for key, one in stats.waiting.items() if not one.counted and _is_due(stats, one, clock)}
    for sample in due.values():
        stats = _count(stats, sample, clock)
    if due:
        oldest = clock - timedelta(seconds=2 * stats.wait)
        counted = {key: one._replace(counted=True) for key, one in due.items()}
        stats = stats._replace(
            waiting={key: counted.get(key, one) for key, one in stats.waiting.items() if one.at >= oldest}
        )
    if not hold:
        stats = _raise_alarms(stats, clock, now)
    return _end_alarms(stats, now)


def _is_due(stats: ReceiptStats, sample: Sample, clock: datetime) -> bool:
    age = (clock - sample.at).total_seconds()
    there = stats.destinations.get(sample.destination)
    for one in (stats.overall, there):
        if one is not None and one.silent_from is not None and sample.at >= one.silent_from:
            return age >= min(stats.wait, max(_MIN_SETTLE, 2 * (stats.usual_delay or 0.0)))
    return age >= stats.wait


def _count(stats: ReceiptStats, sample: Sample, clock: datetime) -> ReceiptStats:
    there = stats.destinations.get(sample.destination) or Confirmation()
    if sample.destination and not stats.silent:
        there = _counted(there, sample, clock)
        stats = _with_destination(stats, sample.destination, there)
    if there.silent_since is not None:
        return stats  # what is silent there is no evidence elsewhere
    return stats._replace(overall=_counted(stats.overall, sample, clock))


def _counted(one: Confirmation, sample: Sample, clock: datetime) -> Confirmation:
    keep = 1 - 1 / _RECENT
    one = one._replace(
        recent=one.recent * keep + 1,
        recent_good=one.recent_good * keep + sample.good,
        recent_failed=one.recent_failed * keep + sample.failed,
        missing=0 if sample.good else one.missing + 1,
        counted_at=clock,
    )
    if one.silent_from is not None:
        if sample.at < one.silent_from:
            return one  # from the time that raised the alarm
        return one._replace(relief=max(0.0, one.relief - _evidence(one, good=sample.good)))
    if one.established:
        one = one._replace(suspicion=min(ALARM, max(0.0, one.suspicion + _evidence(one, good=sample.good))))
    weight = _learned(one)
    forget = min(1.0, _MEMORY / (one.samples + weight))
    return one._replace(
        samples=(one.samples + weight) * forget, usual_good=(one.usual_good + sample.good * weight) * forget
    )


def _learned(one: Confirmation) -> float:
    """The weight of a sample in the usual share."""
    return _SUSPECT_WEIGHT if one.suspicion > _SUSPECT else 1.0


def _evidence(one: Confirmation, *, good: bool) -> float:
    """The logarithm of how much likelier the sample is when half as many are confirmed as usual."""
    return math.log(0.5) if good else math.log((1 - one.usual / 2) / (1 - one.usual))


def _recount(stats: ReceiptStats, destination: str, good: bool) -> ReceiptStats:
    """A sample that was counted turns out the other way."""
    there = stats.destinations.get(destination)
    if there is not None:
        stats = _with_destination(stats, destination, _recounted(there, good=good))
        if there.silent_since is not None:
            return stats
    return stats._replace(overall=_recounted(stats.overall, good=good))


def _recounted(one: Confirmation, *, good: bool) -> Confirmation:
    change = _evidence(one, good=good) - _evidence(one, good=not good)
    sign = 1 if good else -1
    one = one._replace(recent_good=min(one.recent, max(0.0, one.recent_good + sign)))
    if one.silent_since is not None:
        return one._replace(relief=max(0.0, one.relief - change))
    return one._replace(
        suspicion=min(ALARM, max(0.0, one.suspicion + change)),
        usual_good=min(one.samples, max(0.0, one.usual_good + sign * _learned(one))),
    )


def _raise_alarms(stats: ReceiptStats, clock: datetime, now: datetime) -> ReceiptStats:
    for name, there in stats.destinations.items():
        if there.silent_since is not None or there.suspicion < ALARM or stats.silent:
            continue
        elsewhere = sum(one.recent_good for other, one in stats.destinations.items() if other != name)
        if elsewhere < LEAST_ELSEWHERE:
            return stats._replace(overall=_silenced(stats.overall, there, clock, now))
        stats = _with_destination(stats, name, _silenced(there, there, clock, now))
        stats = stats._replace(overall=stats.overall._replace(suspicion=0.0))
    if not stats.silent and stats.overall.suspicion >= ALARM:
        stats = stats._replace(overall=_silenced(stats.overall, stats.overall, clock, now))
    return stats


def _silenced(one: Confirmation, because: Confirmation, clock: datetime, now: datetime) -> Confirmation:
    return one._replace(
        silent_since=now, silent_from=clock, suspicion=0.0, relief=0.0, accepted=0, reason=describe(because)
    )


def _end_alarms(stats: ReceiptStats, now: datetime) -> ReceiptStats:
    if stats.silent and stats.overall.relief >= _RELIEF:
        calm = {name: _resumed(there, None) for name, there in stats.destinations.items()}
        return stats._replace(overall=_resumed(stats.overall, now), destinations=calm)
    for name, there in stats.destinations.items():
        if there.silent_since is not None and there.relief >= _RELIEF:
            stats = _with_destination(stats, name, _resumed(there, now))
    return stats


def _resumed(one: Confirmation, now: datetime | None) -> Confirmation:
    return one._replace(
        silent_since=None, silent_from=None, suspicion=0.0, relief=0.0, reason="", resumed_at=now or one.resumed_at
    )


def describe(one: Confirmation) -> str:
    """The alarm in words, with its numbers."""
    usual = f"usually {one.usual:.0%}"
    numbers = f"{one.recent_share or 0:.0%} of the last attempts confirmed, {usual}"
    if one.recent_failed > (one.recent - one.recent_good) / 2:
        return f"late failures: {numbers}"
    if one.missing >= _STOPPED:
        return f"receipts have stopped: none of the last {one.missing} attempts confirmed, {usual}"
    return f"receipts have fallen: {numbers}"


def _usual_delay(usual: float | None, delay: float, *, late: bool) -> float:
    """An upper quantile of the delays, by small steps; a receipt after its wait lengthens the wait at once."""
    delay = max(delay, 0.1)
    if usual is None:
        return delay
    if late:
        return max(usual, delay / 2)
    return usual * (1 + _STEP * _QUANTILE) if delay > usual else usual * (1 - _STEP * (1 - _QUANTILE))


def _with_destination(stats: ReceiptStats, name: str, found: Confirmation) -> ReceiptStats:
    others = {key: one for key, one in stats.destinations.items() if key != name}
    while len(others) >= _MAX_DESTINATIONS:
        del others[next(iter(others))]
    return stats._replace(destinations={**others, name: found})


def overlay(stats: ProviderStats, receipts: ReceiptStats, thresholds: HealthThresholds) -> ProviderStats:
    """The breaker's statistics as routers get them: what is healthy by its calls and silent is degraded.

    The breaker does not see the silence: its probes succeed.
    """
    overall = receipts.overall
    stats = _overlaid(stats, overall, thresholds)
    if overall.silent_since is not None:
        return stats
    silent = {
        name: _overlaid(stats.destinations.get(name, ProviderStats()), there, thresholds)
        for name, there in receipts.destinations.items()
        if there.silent_since is not None
    }
    return stats._replace(destinations={**stats.destinations, **silent}) if silent else stats


def _overlaid(stats: ProviderStats, one: Confirmation, thresholds: HealthThresholds) -> ProviderStats:
    if one.silent_since is None:
        returned = stats.status == HEALTHY and one.resumed_at is not None
        if returned and (stats.changed_at is None or stats.changed_at < one.resumed_at):  # type: ignore[operator]
            return stats._replace(changed_at=one.resumed_at)
        return stats
    if stats.status != HEALTHY:
        return stats._replace(reason=f"{stats.reason}; {one.reason}")
    return stats._replace(
        status=DEGRADED,
        reason=one.reason,
        cause=CAUSE,
        changed_at=one.silent_since,
        probe_at=one.silent_since + timedelta(seconds=thresholds.degraded_probe_interval),
        probe_results=one.accepted,
        probe_successes=min(RELIEF_SAMPLES, round(one.relief / math.log(2))),
    )
