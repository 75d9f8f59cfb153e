"""The seed rule: the last 100 attempts, three statuses, a pause, and then no evidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.health.breaker import Attempt
from sluice.health.seed_rule import SeedStats, SeedThresholds, observe
from tests.examples import NOON, after

THRESHOLDS = SeedThresholds()
GOOD, BAD = "accepted", "provider_fault"


def after_attempts(*outcomes, stats=None, begin=0.0, trial=False):
    """The statistics after these attempts, one a millisecond."""
    stats = stats or SeedStats()
    for number, outcome in enumerate(outcomes):
        stats = observe(stats, Attempt(after(begin + number / 1000), outcome), THRESHOLDS, trial=trial)
    return stats


def spread(failed, of):
    """``failed`` failures among ``of`` attempts, never two in a row; the last attempt failed."""
    outcomes = [GOOD] * of
    for number in range(failed):
        outcomes[of - 1 - number * (of // failed)] = BAD
    return outcomes


@pytest.mark.parametrize(
    ("failed", "status"), [(4, "healthy"), (5, "degraded"), (25, "degraded"), (26, "unhealthy"), (33, "unhealthy")]
)
def test_the_rate_of_the_last_hundred_attempts_decides(failed, status):
    assert after_attempts(*spread(failed, 100)).status == status


def test_older_attempts_do_not_count():
    stats = after_attempts(*spread(20, 100), *[GOOD] * 96)

    assert (stats.status, stats.error_rate) == ("healthy", 0.01)


def test_consecutive_failures_make_a_provider_unhealthy():
    almost = after_attempts(*[GOOD] * 100, *[BAD] * 4)
    assert almost.status == "healthy"

    stats = after_attempts(BAD, stats=almost)

    assert (stats.status, stats.reason) == ("unhealthy", "5 consecutive failures")
    assert stats.out_until == after(60)


def test_few_attempts_make_no_rate_above_which_a_provider_is_unhealthy():
    assert after_attempts(GOOD, BAD, GOOD, BAD).status == "degraded"
    assert after_attempts(*[GOOD, BAD] * 10).status == "unhealthy"


@pytest.mark.parametrize("outcome", ["recipient_rejected", "declined", "throttled", "unresponsive", "", "of tomorrow"])
def test_what_is_not_the_providers_fault_is_no_evidence(outcome):
    assert after_attempts(*[outcome] * 50) == SeedStats()


@pytest.mark.parametrize("outcome", ["provider_fault", "unknown", "auth_failed"])
def test_each_fault_counts_the_same(outcome):
    assert after_attempts(*[outcome] * 5).status == "unhealthy"


def test_calls_that_end_during_the_pause_change_nothing():
    stats = after_attempts(*[BAD] * 5)

    assert after_attempts(GOOD, BAD, GOOD, stats=stats, begin=59) == stats


def test_after_the_pause_a_provider_begins_again():
    stats = after_attempts(BAD, stats=after_attempts(*[BAD] * 5), begin=61)

    assert (stats.status, stats.attempts, stats.consecutive_failures) == ("degraded", 1, 1)


@pytest.mark.parametrize(("outcome", "status"), [(GOOD, "healthy"), (BAD, "unhealthy")])
def test_with_a_trial_the_first_attempt_after_the_pause_decides(outcome, status):
    stats = after_attempts(outcome, stats=after_attempts(*[BAD] * 5), begin=61, trial=True)

    assert (stats.status, stats.attempts) == (status, 0)
    assert stats.out_until == (after(121) if status == "unhealthy" else None)


@given(st.lists(st.sampled_from([GOOD, BAD, "unknown", "declined"]), max_size=300))
def test_the_numbers_are_those_of_the_newest_attempts(outcomes):
    thresholds = SeedThresholds(consecutive_failures=1000, unhealthy_error_rate=0.999)
    stats = SeedStats()
    for outcome in outcomes:
        stats = observe(stats, Attempt(NOON, outcome), thresholds)

    counted = [outcome != GOOD for outcome in outcomes if outcome != "declined"]
    window = counted[-100:]
    if stats.status != "unhealthy":
        assert stats.attempts == len(window)
        assert stats.error_rate == (sum(window) / len(window) if window else 0)
        assert stats.status == ("degraded" if stats.error_rate >= 0.05 else "healthy")
