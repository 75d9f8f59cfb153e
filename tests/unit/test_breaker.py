"""The circuit breaker: attempts in, health status out."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.health.breaker import Attempt, HealthThresholds, ProviderStats, decay, observe
from tests.examples import NOON, after, seconds

LIMITS = HealthThresholds()
GOOD, BAD, UNSURE, UNRESPONSIVE = "accepted", "provider_fault", "unknown", "unresponsive"


def observed(*outcomes, limits=LIMITS, stats=None, start=0.0):
    """The statistics after these outcomes, one every tenth of a second."""
    attempts = [Attempt(after(start + number / 10), outcome) for number, outcome in enumerate(outcomes)]
    return reduce(lambda stats, attempt: observe(stats, attempt, limits), attempts, stats or ProviderStats())


def an_unhealthy_provider(**changes):
    """The statistics of a provider that became unhealthy at noon, with a probe five seconds later."""
    stats = observed(*[BAD] * LIMITS.consecutive_failures, start=-0.4)
    assert (stats.status, stats.probe_at) == ("unhealthy", after(5))
    return stats


def test_a_provider_without_attempts_is_healthy():
    assert ProviderStats().status == "healthy"


def test_below_the_degraded_error_rate_a_provider_is_healthy():
    assert observed(*[GOOD] * 96, *[BAD] * 4).status == "healthy"


def test_from_five_percent_errors_a_provider_is_degraded():
    assert observed(*[GOOD] * 94, *[BAD] * 4, GOOD, BAD).status == "degraded"


def test_above_a_quarter_of_errors_a_provider_is_unhealthy():
    assert observed(*[GOOD, GOOD, BAD] * 10).status == "unhealthy"


def test_at_a_quarter_of_errors_a_provider_is_degraded():
    assert observed(*[GOOD, GOOD, GOOD, BAD] * 25).status == "degraded"


def test_the_error_rate_of_few_attempts_is_not_evaluated():
    assert observed(*[BAD, GOOD] * 9).status == "healthy"


def test_five_consecutive_failures_make_a_provider_unhealthy():
    assert [observed(*[BAD] * count).status for count in (4, 5)] == ["healthy", "unhealthy"]


def test_a_success_resets_the_consecutive_failures():
    assert observed(*[BAD] * 4, GOOD, *[BAD] * 4).status == "healthy"


def test_an_unknown_outcome_counts_more_than_a_fault():
    assert observed(*[UNSURE] * 4, GOOD).error_rate > observed(*[BAD] * 4, GOOD).error_rate


def test_an_unresponsive_provider_is_degraded_at_once():
    stats = observed(*[GOOD] * 30, UNRESPONSIVE)
    assert (stats.status, stats.reason) == ("degraded", "unresponsive: no call ends")


@pytest.mark.parametrize("outcome", [GOOD, "rejected", "throttled"])
def test_the_first_response_ends_unresponsiveness(outcome):
    assert observed(*[GOOD] * 30, UNRESPONSIVE, UNRESPONSIVE, outcome).status == "healthy"


def test_a_response_from_before_the_report_does_not_end_unresponsiveness():
    stats = observed(UNRESPONSIVE, start=5.0)
    assert observe(stats, Attempt(after(4.9), GOOD), LIMITS).status == "degraded"


def test_an_unknown_outcome_does_not_end_unresponsiveness():
    assert [observed(UNRESPONSIVE, *[UNSURE] * count).status for count in (1, 4, 5)] == [
        "degraded",
        "degraded",
        "unhealthy",
    ]


def test_unresponsiveness_expires_without_further_reports():
    stats = observed(UNRESPONSIVE)
    times = [LIMITS.unresponsive_ttl - 1, LIMITS.unresponsive_ttl]
    assert [decay(stats, after(time), LIMITS).status for time in times] == ["degraded", "healthy"]


def test_the_end_of_unresponsiveness_does_not_close_an_open_breaker():
    stats = observed(UNRESPONSIVE, stats=an_unhealthy_provider(), start=1.0)
    assert (stats.status, decay(stats, after(1 + LIMITS.unresponsive_ttl), LIMITS).status) == (
        "unhealthy",
        "unhealthy",
    )


def test_a_rejected_recipient_is_no_evidence():
    assert observed(*["rejected"] * 500) == ProviderStats()


def test_only_the_newest_attempts_are_evaluated():
    stats = observed(*[BAD, GOOD, GOOD, GOOD, GOOD] * 10, *[GOOD] * LIMITS.window)

    assert (stats.error_rate, len(stats.samples)) == (0.0, LIMITS.window)


def test_an_unhealthy_provider_is_probed_after_the_initial_backoff():
    assert an_unhealthy_provider().probe_at == after(LIMITS.initial_backoff)


def test_a_failed_probe_doubles_the_backoff():
    stats = observe(an_unhealthy_provider(), Attempt(after(6), BAD), LIMITS)

    assert stats.probe_at == after(6 + 2 * LIMITS.initial_backoff)


def test_the_backoff_has_a_maximum():
    stats = an_unhealthy_provider()
    for _ in range(40):
        stats = observe(stats, Attempt(stats.probe_at, BAD), LIMITS)

    pause = observe(stats, Attempt(stats.probe_at, BAD), LIMITS).probe_at - stats.probe_at
    assert pause == seconds(LIMITS.max_backoff)


def test_jitter_shortens_the_backoff():
    stats = observe(observed(*[BAD] * 4), Attempt(NOON, BAD), LIMITS, 0.5)

    assert stats.probe_at == after(LIMITS.initial_backoff / 2)


def test_enough_successful_probes_make_a_provider_healthy():
    statuses = [observed(*[GOOD] * count, stats=an_unhealthy_provider(), start=6).status for count in (1, 2, 3)]

    assert statuses == ["unhealthy", "unhealthy", "healthy"]


def test_a_failed_probe_resets_the_successful_ones():
    assert observed(GOOD, GOOD, BAD, stats=an_unhealthy_provider(), start=6).probe_successes == 0


def test_failures_from_before_the_recovery_do_not_count():
    stats = observed(*[GOOD] * 3, stats=an_unhealthy_provider(), start=6)

    assert observed(BAD, stats=stats, start=7).status == "healthy"


def test_a_success_from_before_the_probe_time_is_no_probe():
    stats = observed(GOOD, GOOD, GOOD, stats=an_unhealthy_provider(), start=1)

    assert (stats.status, stats.probe_successes) == ("unhealthy", 0)


def test_a_failure_from_before_the_probe_time_does_not_lengthen_the_backoff():
    assert observed(BAD, stats=an_unhealthy_provider(), start=1).probe_at == after(LIMITS.initial_backoff)


def test_refused_credentials_suspend_the_account_at_once():
    stats = observed("auth_failed")

    assert (stats.status, stats.suspended_until) == ("unhealthy", after(LIMITS.auth_suspension))


def test_a_second_refusal_doubles_the_suspension():
    stats = observed("auth_failed", "auth_failed", start=-0.1)

    assert stats.suspended_until == after(2 * LIMITS.auth_suspension)


def test_one_refusal_shortly_after_a_success_does_not_suspend():
    stats = observed(GOOD, "auth_failed", "auth_failed", GOOD, "auth_failed")

    assert (stats.status, stats.suspended_until) == ("healthy", None)


def test_three_consecutive_refusals_shortly_after_a_success_suspend():
    stats = observed(GOOD, *["auth_failed"] * 3, start=-0.3)

    assert (stats.status, stats.suspended_until) == ("unhealthy", after(LIMITS.auth_suspension))


def test_a_throttled_provider_is_not_called_for_the_pause_it_asked_for():
    stats = observe(ProviderStats(), Attempt(NOON, "throttled", seconds(30)), LIMITS)

    assert (stats.suspended_until, stats.status) == (after(30), "healthy")


def test_a_throttle_without_a_pause_lasts_the_default():
    assert observed("throttled").suspended_until == after(LIMITS.default_throttle)


def test_a_shorter_pause_does_not_end_a_longer_one():
    stats = observe(ProviderStats(suspended_until=after(60)), Attempt(NOON, "throttled", seconds(1)), LIMITS)

    assert stats.suspended_until == after(60)


def test_old_evidence_expires():
    stats = observed(*[BAD, GOOD, GOOD, GOOD, GOOD] * 8)
    assert stats.status == "degraded"

    later = decay(stats, NOON + timedelta(seconds=LIMITS.evidence_ttl + 60), LIMITS)

    assert (later.status, later.samples) == ("healthy", ())


def test_time_alone_does_not_close_an_open_breaker():
    assert decay(an_unhealthy_provider(), NOON + timedelta(days=1), LIMITS).status == "unhealthy"


def test_failures_far_apart_are_not_consecutive():
    stats = observed(*[BAD] * 4)

    later = observe(stats, Attempt(NOON + timedelta(seconds=LIMITS.evidence_ttl + 60), BAD), LIMITS)

    assert later.status == "healthy"


OUTCOMES = st.sampled_from([GOOD, BAD, UNSURE, "throttled", "auth_failed", "rejected", "of a newer version"])


@given(st.lists(st.tuples(st.integers(-1_000, 1_000), OUTCOMES), max_size=60))
def test_any_attempts_in_any_order_give_one_of_three_statuses(attempts):
    stats = ProviderStats()
    for when, outcome in attempts:
        stats = decay(observe(stats, Attempt(after(when), outcome), LIMITS), after(when), LIMITS)

    assert stats.status in ("healthy", "degraded", "unhealthy")
    assert 0.0 <= stats.error_rate <= 1.0
    assert len(stats.samples) <= LIMITS.window
    assert (stats.status == "unhealthy") == (stats.probe_at is not None)


@pytest.mark.parametrize("outcome", [GOOD, BAD])
def test_an_unhealthy_provider_always_has_a_probe_time(outcome):
    stats = observed(outcome, stats=an_unhealthy_provider(), start=6)

    assert stats.status != "unhealthy" or stats.probe_at is not None


def test_an_attempt_older_than_the_evidence_ttl_is_no_evidence():
    stats = observed(GOOD, BAD)

    assert observed(*[BAD] * 50, stats=stats, start=-LIMITS.evidence_ttl - 60) == stats


def test_a_late_attempt_evicts_nothing():
    stats = observed(*[GOOD] * 10, *[BAD] * 4)

    late = observed(BAD, stats=stats, start=-LIMITS.evidence_ttl / 2)

    assert (late.status, len(late.samples)) == ("unhealthy", 15)


@dataclass
class NaiveModel:
    """The rules of the breaker without running sums: everything is counted from the samples."""

    limits: HealthThresholds
    samples: list[tuple[datetime, float]] = field(default_factory=list)
    status: str = "healthy"
    openings: int = 0
    probe_successes: int = 0
    auth_failures: int = 0
    probe_at: datetime | None = None
    suspended_until: datetime | None = None

    def observe(self, at, outcome):
        if outcome == "throttled":
            self.pause_until(at, self.limits.default_throttle)
        elif outcome == "auth_failed":
            self.suspend(at)
        elif outcome in ("accepted", "provider_fault", "unknown"):
            newest = max((when for when, _ in self.samples), default=at)
            if newest - at < seconds(self.limits.evidence_ttl):
                self.count(max(at, newest), outcome)
                self.evaluate(at, failed=outcome != "accepted")

    def pass_time(self, now):
        before = self.samples
        self.evict(now)
        if self.samples != before and self.status != "unhealthy":
            self.evaluate_error_rate()

    def evict(self, now):
        kept = [entry for entry in self.samples if now - entry[0] < seconds(self.limits.evidence_ttl)]
        self.samples = kept[-self.limits.window :]

    def count(self, at, outcome):
        self.auth_failures = 0
        self.samples = [*self.samples, (at, {"accepted": 0.0, "provider_fault": 1.0, "unknown": 1.5}[outcome])]
        self.evict(at)

    def evaluate(self, at, *, failed):
        if self.status == "unhealthy":
            if at < self.probe_at:
                return
            self.probe_successes += not failed
            if failed:
                self.open(at)
            elif self.probe_successes >= self.limits.probe_successes:
                self.status, self.samples, self.probe_at = "healthy", [], None
                self.openings = self.probe_successes = 0
        elif failed and (
            self.consecutive_failures() >= self.limits.consecutive_failures
            or (len(self.samples) >= self.limits.min_samples and self.error_rate() > self.limits.unhealthy_error_rate)
        ):
            self.open(at)
        else:
            self.evaluate_error_rate()

    def evaluate_error_rate(self):
        bad = len(self.samples) >= self.limits.min_samples and self.error_rate() >= self.limits.degraded_error_rate
        self.status = "degraded" if bad else "healthy"

    def error_rate(self):
        return min(1.0, sum(weight for _, weight in self.samples) / len(self.samples)) if self.samples else 0.0

    def consecutive_failures(self):
        weights = [weight for _, weight in self.samples]
        return next((n for n, weight in enumerate(reversed(weights)) if weight == 0), len(weights))

    def open(self, at):
        pause = min(self.limits.max_backoff, self.limits.initial_backoff * 2**self.openings)
        self.status, self.probe_successes, self.probe_at = "unhealthy", 0, at + seconds(pause)
        self.openings = min(self.openings + 1, 16)

    def suspend(self, at):
        worked = any(when > at - seconds(self.limits.auth_grace) and weight == 0 for when, weight in self.samples)
        self.auth_failures += 1
        if worked and self.auth_failures < self.limits.auth_failures_to_suspend:
            return
        doubled = self.auth_failures - (self.limits.auth_failures_to_suspend if worked else 1)
        pause = min(3600.0, self.limits.auth_suspension * 2**doubled)
        self.auth_failures = min(self.auth_failures, 16)
        self.status, self.probe_successes, self.probe_at = "unhealthy", 0, at + seconds(pause)
        self.pause_until(at, pause)

    def pause_until(self, at, pause):
        self.suspended_until = max(self.suspended_until or at, at + seconds(pause))


SMALL = HealthThresholds(
    window=8, evidence_ttl=60, min_samples=4, degraded_error_rate=0.2, unhealthy_error_rate=0.5, auth_grace=20
)
STEPS = st.one_of(st.integers(0, 3), st.integers(-30, 30), st.sampled_from([-70, -60, 59, 60, 61]))
MIXED = st.sampled_from([GOOD, GOOD, GOOD, BAD, BAD, UNSURE, "throttled", "auth_failed", "rejected", "time passes"])


@pytest.mark.parametrize("limits", [LIMITS, SMALL], ids=["default", "few"])
@given(st.lists(st.tuples(st.booleans(), STEPS, MIXED), max_size=150))
def test_running_sums_give_the_same_statuses_as_counting(limits, steps):
    fast, slow = {}, {}
    now = 0.0
    for which, step, outcome in steps:
        now += step
        stats, reference = fast.get(which, ProviderStats()), slow.setdefault(which, NaiveModel(limits))
        if outcome == "time passes":
            fast[which] = decay(stats, after(now), limits)
            reference.pass_time(after(now))
        else:
            fast[which] = observe(stats, Attempt(after(now), outcome), limits)
            reference.observe(after(now), outcome)
        assert comparable(fast[which]) == comparable(reference)
        assert fast[which].consecutive_failures == reference.consecutive_failures()
        assert fast[which].error_rate == reference.error_rate()


def comparable(stats):
    names = ("status", "probe_at", "suspended_until", "openings", "probe_successes", "auth_failures")
    return {name: getattr(stats, name) for name in names} | {"samples": list(stats.samples)}
