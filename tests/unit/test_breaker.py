"""Health: attempts in, verdict out."""

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


def watched(*outcomes, limits=LIMITS, record=None, start=0.0):
    """The record after these outcomes, one a tenth of a second."""
    attempts = [Attempt(after(start + number / 10), outcome) for number, outcome in enumerate(outcomes)]
    return reduce(lambda known, attempt: observe(known, attempt, limits), attempts, record or ProviderStats())


def out(**changes):
    """The record of a provider that went out at noon and may be probed five seconds later."""
    record = watched(*[BAD] * LIMITS.consecutive_failures, start=-0.4)
    assert (record.status, record.probe_at) == ("unhealthy", after(5))
    return record


def test_nothing_known_is_healthy():
    assert ProviderStats().status == "healthy"


def test_under_the_threshold_of_errors_a_provider_is_healthy():
    assert watched(*[GOOD] * 96, *[BAD] * 4).status == "healthy"


def test_from_five_per_cent_a_provider_is_degraded():
    assert watched(*[GOOD] * 94, *[BAD] * 4, GOOD, BAD).status == "degraded"


def test_above_a_quarter_a_provider_is_unhealthy():
    assert watched(*[GOOD, GOOD, BAD] * 10).status == "unhealthy"


def test_exactly_a_quarter_is_degraded():
    assert watched(*[GOOD, GOOD, GOOD, BAD] * 25).status == "degraded"


def test_a_share_of_few_attempts_says_nothing():
    assert watched(*[BAD, GOOD] * 9).status == "healthy"


def test_five_failures_in_a_row_are_enough():
    assert [watched(*[BAD] * count).status for count in (4, 5)] == ["healthy", "unhealthy"]


def test_a_success_begins_the_count_anew():
    assert watched(*[BAD] * 4, GOOD, *[BAD] * 4).status == "healthy"


def test_an_unknown_outcome_counts_more_than_a_fault():
    assert watched(*[UNSURE] * 4, GOOD).error_rate > watched(*[BAD] * 4, GOOD).error_rate


def test_a_provider_that_answers_nobody_is_degraded_at_once():
    record = watched(*[GOOD] * 30, UNRESPONSIVE)
    assert (record.status, record.reason) == ("degraded", "unresponsive: no call ends")


@pytest.mark.parametrize("answer", [GOOD, "rejected", "throttled"])
def test_the_first_answer_ends_the_silence(answer):
    assert watched(*[GOOD] * 30, UNRESPONSIVE, UNRESPONSIVE, answer).status == "healthy"


def test_an_answer_from_before_the_silence_does_not_end_it():
    record = watched(UNRESPONSIVE, start=5.0)
    assert observe(record, Attempt(after(4.9), GOOD), LIMITS).status == "degraded"


def test_an_answer_that_did_not_come_does_not_end_the_silence():
    assert [watched(UNRESPONSIVE, *[UNSURE] * count).status for count in (1, 4, 5)] == [
        "degraded",
        "degraded",
        "unhealthy",
    ]


def test_silence_of_which_no_more_is_heard_is_forgotten():
    record = watched(UNRESPONSIVE)
    times = [LIMITS.unresponsive_ttl - 1, LIMITS.unresponsive_ttl]
    assert [decay(record, after(time), LIMITS).status for time in times] == ["degraded", "healthy"]


def test_who_is_out_comes_back_by_probes_whatever_silence_ended():
    record = watched(UNRESPONSIVE, record=out(), start=1.0)
    assert (record.status, decay(record, after(1 + LIMITS.unresponsive_ttl), LIMITS).status) == (
        "unhealthy",
        "unhealthy",
    )


def test_a_rejected_recipient_moves_nothing():
    assert watched(*["rejected"] * 500) == ProviderStats()


def test_only_the_last_attempts_are_looked_at():
    record = watched(*[BAD, GOOD, GOOD, GOOD, GOOD] * 10, *[GOOD] * LIMITS.window)

    assert (record.error_rate, len(record.samples)) == (0.0, LIMITS.window)


def test_a_provider_that_goes_out_is_probed_after_a_pause():
    assert out().probe_at == after(LIMITS.initial_backoff)


def test_a_failed_probe_doubles_the_pause():
    record = observe(out(), Attempt(after(6), BAD), LIMITS)

    assert record.probe_at == after(6 + 2 * LIMITS.initial_backoff)


def test_the_pause_has_a_longest():
    record = out()
    for _ in range(40):
        record = observe(record, Attempt(record.probe_at, BAD), LIMITS)

    pause = observe(record, Attempt(record.probe_at, BAD), LIMITS).probe_at - record.probe_at
    assert pause == seconds(LIMITS.max_backoff)


def test_jitter_shortens_the_pause():
    record = observe(watched(*[BAD] * 4), Attempt(NOON, BAD), LIMITS, 0.5)

    assert record.probe_at == after(LIMITS.initial_backoff / 2)


def test_enough_good_probes_make_a_provider_healthy_again():
    verdicts = [watched(*[GOOD] * count, record=out(), start=6).status for count in (1, 2, 3)]

    assert verdicts == ["unhealthy", "unhealthy", "healthy"]


def test_a_failed_probe_forgets_the_good_ones():
    assert watched(GOOD, GOOD, BAD, record=out(), start=6).probe_successes == 0


def test_a_provider_that_came_back_is_not_thrown_out_by_its_old_failures():
    record = watched(*[GOOD] * 3, record=out(), start=6)

    assert watched(BAD, record=record, start=7).status == "healthy"


def test_an_answer_to_a_call_from_before_the_verdict_is_no_probe():
    record = watched(GOOD, GOOD, GOOD, record=out(), start=1)

    assert (record.status, record.probe_successes) == ("unhealthy", 0)


def test_a_late_failure_from_before_the_verdict_does_not_lengthen_the_pause():
    assert watched(BAD, record=out(), start=1).probe_at == after(LIMITS.initial_backoff)


def test_refused_credentials_park_the_account_at_once():
    record = watched("auth_failed")

    assert (record.status, record.suspended_until) == ("unhealthy", after(LIMITS.auth_suspension))


def test_credentials_refused_again_are_parked_for_longer():
    record = watched("auth_failed", "auth_failed", start=-0.1)

    assert record.suspended_until == after(2 * LIMITS.auth_suspension)


def test_one_refusal_of_an_account_that_has_just_worked_parks_nothing():
    record = watched(GOOD, "auth_failed", "auth_failed", GOOD, "auth_failed")

    assert (record.status, record.suspended_until) == ("healthy", None)


def test_three_refusals_in_a_row_park_an_account_that_has_just_worked():
    record = watched(GOOD, *["auth_failed"] * 3, start=-0.3)

    assert (record.status, record.suspended_until) == ("unhealthy", after(LIMITS.auth_suspension))


def test_a_throttle_holds_for_as_long_as_the_provider_asked():
    record = observe(ProviderStats(), Attempt(NOON, "throttled", seconds(30)), LIMITS)

    assert (record.suspended_until, record.status) == (after(30), "healthy")


def test_a_throttle_that_names_no_time_holds_for_the_default():
    assert watched("throttled").suspended_until == after(LIMITS.default_throttle)


def test_a_shorter_hold_does_not_end_a_longer_one():
    record = observe(ProviderStats(suspended_until=after(60)), Attempt(NOON, "throttled", seconds(1)), LIMITS)

    assert record.suspended_until == after(60)


def test_old_evidence_is_forgotten():
    record = watched(*[BAD, GOOD, GOOD, GOOD, GOOD] * 8)
    assert record.status == "degraded"

    later = decay(record, NOON + timedelta(seconds=LIMITS.evidence_ttl + 60), LIMITS)

    assert (later.status, later.samples) == ("healthy", ())


def test_time_alone_does_not_bring_a_provider_back_that_is_out():
    assert decay(out(), NOON + timedelta(days=1), LIMITS).status == "unhealthy"


def test_failures_far_apart_are_not_in_a_row():
    record = watched(*[BAD] * 4)

    later = observe(record, Attempt(NOON + timedelta(seconds=LIMITS.evidence_ttl + 60), BAD), LIMITS)

    assert later.status == "healthy"


OUTCOMES = st.sampled_from([GOOD, BAD, UNSURE, "throttled", "auth_failed", "rejected", "of a newer version"])


@given(st.lists(st.tuples(st.integers(-1_000, 1_000), OUTCOMES), max_size=60))
def test_whatever_comes_in_whatever_order_the_verdict_is_one_of_three(attempts):
    record = ProviderStats()
    for when, outcome in attempts:
        record = decay(observe(record, Attempt(after(when), outcome), LIMITS), after(when), LIMITS)

    assert record.status in ("healthy", "degraded", "unhealthy")
    assert 0.0 <= record.error_rate <= 1.0
    assert len(record.samples) <= LIMITS.window
    assert (record.status == "unhealthy") == (record.probe_at is not None)


@pytest.mark.parametrize("outcome", [GOOD, BAD])
def test_a_provider_that_is_out_can_always_be_probed(outcome):
    record = watched(outcome, record=out(), start=6)

    assert record.status != "unhealthy" or record.probe_at is not None


def test_an_attempt_that_comes_later_than_the_memory_is_long_is_no_evidence():
    record = watched(GOOD, BAD)

    assert watched(*[BAD] * 50, record=record, start=-LIMITS.evidence_ttl - 60) == record


def test_an_attempt_that_comes_late_wipes_nothing():
    record = watched(*[GOOD] * 10, *[BAD] * 4)

    late = watched(BAD, record=record, start=-LIMITS.evidence_ttl / 2)

    assert (late.status, len(late.samples)) == ("unhealthy", 15)


@dataclass
class NaiveModel:
    """The rule as one would write it down: everything is counted anew from the attempts that are remembered."""

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
            self.hold(at, self.limits.default_throttle)
        elif outcome == "auth_failed":
            self.refused(at)
        elif outcome in ("accepted", "provider_fault", "unknown"):
            newest = max((when for when, _ in self.samples), default=at)
            if newest - at < seconds(self.limits.evidence_ttl):
                self.count(max(at, newest), outcome)
                self.judge(at, failed=outcome != "accepted")

    def pass_time(self, now):
        before = self.samples
        self.forget(now)
        if self.samples != before and self.status != "unhealthy":
            self.by_share()

    def forget(self, now):
        remembered = [entry for entry in self.samples if now - entry[0] < seconds(self.limits.evidence_ttl)]
        self.samples = remembered[-self.limits.window :]

    def count(self, at, outcome):
        self.auth_failures = 0
        self.samples = [*self.samples, (at, {"accepted": 0.0, "provider_fault": 1.0, "unknown": 1.5}[outcome])]
        self.forget(at)

    def judge(self, at, *, failed):
        if self.status == "unhealthy":
            if at < self.probe_at:
                return
            self.probe_successes += not failed
            if failed:
                self.trip(at)
            elif self.probe_successes >= self.limits.probe_successes:
                self.status, self.samples, self.openings, self.probe_successes, self.probe_at = (
                    "healthy",
                    [],
                    0,
                    0,
                    None,
                )
        elif failed and (
            self.in_a_row() >= self.limits.consecutive_failures
            or (len(self.samples) >= self.limits.min_samples and self.share() > self.limits.unhealthy_error_rate)
        ):
            self.trip(at)
        else:
            self.by_share()

    def by_share(self):
        bad = len(self.samples) >= self.limits.min_samples and self.share() >= self.limits.degraded_error_rate
        self.status = "degraded" if bad else "healthy"

    def share(self):
        return min(1.0, sum(weight for _, weight in self.samples) / len(self.samples)) if self.samples else 0.0

    def in_a_row(self):
        weights = [weight for _, weight in self.samples]
        return next((n for n, weight in enumerate(reversed(weights)) if weight == 0), len(weights))

    def trip(self, at):
        pause = min(self.limits.max_backoff, self.limits.initial_backoff * 2**self.openings)
        self.status, self.probe_successes, self.probe_at = "unhealthy", 0, at + seconds(pause)
        self.openings = min(self.openings + 1, 16)

    def refused(self, at):
        worked = any(when > at - seconds(self.limits.auth_grace) and weight == 0 for when, weight in self.samples)
        self.auth_failures += 1
        if worked and self.auth_failures < self.limits.auth_failures_to_suspend:
            return
        doubled = self.auth_failures - (self.limits.auth_failures_to_suspend if worked else 1)
        pause = min(3600.0, self.limits.auth_suspension * 2**doubled)
        self.auth_failures = min(self.auth_failures, 16)
        self.status, self.probe_successes, self.probe_at = "unhealthy", 0, at + seconds(pause)
        self.hold(at, pause)

    def hold(self, at, pause):
        self.suspended_until = max(self.suspended_until or at, at + seconds(pause))


FEW = HealthThresholds(
    window=8, evidence_ttl=60, min_samples=4, degraded_error_rate=0.2, unhealthy_error_rate=0.5, auth_grace=20
)
STEPS = st.one_of(st.integers(0, 3), st.integers(-30, 30), st.sampled_from([-70, -60, 59, 60, 61]))
OFTEN = st.sampled_from([GOOD, GOOD, GOOD, BAD, BAD, UNSURE, "throttled", "auth_failed", "rejected", "time passes"])


@pytest.mark.parametrize("limits", [LIMITS, FEW], ids=["default", "few"])
@given(st.lists(st.tuples(st.booleans(), STEPS, OFTEN), max_size=150))
def test_the_sums_that_are_kept_give_the_verdicts_that_counting_gives(limits, steps):
    fast, slow = {}, {}
    now = 0.0
    for which, step, outcome in steps:
        now += step
        record, reference = fast.get(which, ProviderStats()), slow.setdefault(which, NaiveModel(limits))
        if outcome == "time passes":
            fast[which] = decay(record, after(now), limits)
            reference.pass_time(after(now))
        else:
            fast[which] = observe(record, Attempt(after(now), outcome), limits)
            reference.observe(after(now), outcome)
        assert seen(fast[which]) == seen(reference)
        assert (fast[which].consecutive_failures, fast[which].error_rate) == (reference.in_a_row(), reference.share())


def seen(known):
    names = ("status", "probe_at", "suspended_until", "openings", "probe_successes", "auth_failures")
    return {name: getattr(known, name) for name in names} | {"samples": list(known.samples)}
