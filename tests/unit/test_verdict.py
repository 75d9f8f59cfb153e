"""Health: attempts in, verdict out."""

from datetime import timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.verdict import Attempt, Record, Thresholds, at_time, observe
from tests.examples import NOON, after, seconds

LIMITS = Thresholds()
GOOD, BAD, UNSURE = "accepted", "provider_fault", "unknown"


def watched(*outcomes, limits=LIMITS, record=None, start=0.0):
    """The record after these outcomes, one a tenth of a second."""
    attempts = [Attempt(after(start + number / 10), outcome) for number, outcome in enumerate(outcomes)]
    return reduce(lambda known, attempt: observe(known, attempt, limits), attempts, record or Record())


def out(**changes):
    """The record of a provider that went out at noon and may be probed five seconds later."""
    record = watched(*[BAD] * LIMITS.consecutive, start=-0.4)
    assert (record.verdict, record.probe_at) == ("unhealthy", after(5))
    return record


def test_nothing_known_is_healthy():
    assert Record().verdict == "healthy"


def test_under_the_threshold_of_errors_a_provider_is_healthy():
    assert watched(*[GOOD] * 96, *[BAD] * 4).verdict == "healthy"


def test_from_five_per_cent_a_provider_is_degraded():
    assert watched(*[GOOD] * 94, *[BAD] * 4, GOOD, BAD).verdict == "degraded"


def test_above_a_quarter_a_provider_is_unhealthy():
    assert watched(*[GOOD, GOOD, BAD] * 10).verdict == "unhealthy"


def test_exactly_a_quarter_is_degraded():
    assert watched(*[GOOD, GOOD, GOOD, BAD] * 25).verdict == "degraded"


def test_a_share_of_few_attempts_says_nothing():
    assert watched(*[BAD, GOOD] * 9).verdict == "healthy"


def test_five_failures_in_a_row_are_enough():
    assert [watched(*[BAD] * count).verdict for count in (4, 5)] == ["healthy", "unhealthy"]


def test_a_success_begins_the_count_anew():
    assert watched(*[BAD] * 4, GOOD, *[BAD] * 4).verdict == "healthy"


def test_an_unknown_outcome_counts_more_than_a_fault():
    assert watched(*[UNSURE] * 4, GOOD).error_rate > watched(*[BAD] * 4, GOOD).error_rate


def test_a_rejected_recipient_moves_nothing():
    assert watched(*["rejected"] * 500) == Record()


def test_only_the_last_attempts_are_looked_at():
    record = watched(*[BAD, GOOD, GOOD, GOOD, GOOD] * 10, *[GOOD] * LIMITS.window)

    assert (record.error_rate, len(record.recent)) == (0.0, LIMITS.window)


def test_a_provider_that_goes_out_is_probed_after_a_pause():
    assert out().probe_at == after(LIMITS.back_off)


def test_a_failed_probe_doubles_the_pause():
    record = observe(out(), Attempt(after(6), BAD), LIMITS)

    assert record.probe_at == after(6 + 2 * LIMITS.back_off)


def test_the_pause_has_a_longest():
    record = out()
    for _ in range(40):
        record = observe(record, Attempt(record.probe_at, BAD), LIMITS)

    pause = observe(record, Attempt(record.probe_at, BAD), LIMITS).probe_at - record.probe_at
    assert pause == seconds(LIMITS.longest_back_off)


def test_jitter_shortens_the_pause():
    record = observe(watched(*[BAD] * 4), Attempt(NOON, BAD), LIMITS, 0.5)

    assert record.probe_at == after(LIMITS.back_off / 2)


def test_enough_good_probes_make_a_provider_healthy_again():
    verdicts = [watched(*[GOOD] * count, record=out(), start=6).verdict for count in (1, 2, 3)]

    assert verdicts == ["unhealthy", "unhealthy", "healthy"]


def test_a_failed_probe_forgets_the_good_ones():
    assert watched(GOOD, GOOD, BAD, record=out(), start=6).good_probes == 0


def test_a_provider_that_came_back_is_not_thrown_out_by_its_old_failures():
    record = watched(*[GOOD] * 3, record=out(), start=6)

    assert watched(BAD, record=record, start=7).verdict == "healthy"


def test_an_answer_to_a_call_from_before_the_verdict_is_no_probe():
    record = watched(GOOD, GOOD, GOOD, record=out(), start=1)

    assert (record.verdict, record.good_probes) == ("unhealthy", 0)


def test_a_late_failure_from_before_the_verdict_does_not_lengthen_the_pause():
    assert watched(BAD, record=out(), start=1).probe_at == after(LIMITS.back_off)


def test_refused_credentials_park_the_account_at_once():
    record = watched("auth_failed")

    assert (record.verdict, record.hold_until) == ("unhealthy", after(LIMITS.auth_hold))


def test_credentials_refused_again_are_parked_for_longer():
    record = watched("auth_failed", "auth_failed", start=-0.1)

    assert record.hold_until == after(2 * LIMITS.auth_hold)


def test_one_refusal_of_an_account_that_has_just_worked_parks_nothing():
    record = watched(GOOD, "auth_failed", "auth_failed", GOOD, "auth_failed")

    assert (record.verdict, record.hold_until) == ("healthy", None)


def test_three_refusals_in_a_row_park_an_account_that_has_just_worked():
    record = watched(GOOD, *["auth_failed"] * 3, start=-0.3)

    assert (record.verdict, record.hold_until) == ("unhealthy", after(LIMITS.auth_hold))


def test_a_throttle_holds_for_as_long_as_the_provider_asked():
    record = observe(Record(), Attempt(NOON, "throttled", seconds(30)), LIMITS)

    assert (record.hold_until, record.verdict) == (after(30), "healthy")


def test_a_throttle_that_names_no_time_holds_for_the_default():
    assert watched("throttled").hold_until == after(LIMITS.throttle_hold)


def test_a_shorter_hold_does_not_end_a_longer_one():
    record = observe(Record(hold_until=after(60)), Attempt(NOON, "throttled", seconds(1)), LIMITS)

    assert record.hold_until == after(60)


def test_old_evidence_is_forgotten():
    record = watched(*[BAD, GOOD, GOOD, GOOD, GOOD] * 8)
    assert record.verdict == "degraded"

    later = at_time(record, NOON + timedelta(seconds=LIMITS.memory + 60), LIMITS)

    assert (later.verdict, later.recent) == ("healthy", ())


def test_time_alone_does_not_bring_a_provider_back_that_is_out():
    assert at_time(out(), NOON + timedelta(days=1), LIMITS).verdict == "unhealthy"


def test_failures_far_apart_are_not_in_a_row():
    record = watched(*[BAD] * 4)

    later = observe(record, Attempt(NOON + timedelta(seconds=LIMITS.memory + 60), BAD), LIMITS)

    assert later.verdict == "healthy"


OUTCOMES = st.sampled_from([GOOD, BAD, UNSURE, "throttled", "auth_failed", "rejected", "of a newer version"])


@given(st.lists(st.tuples(st.integers(-1_000, 1_000), OUTCOMES), max_size=60))
def test_whatever_comes_in_whatever_order_the_verdict_is_one_of_three(attempts):
    record = Record()
    for when, outcome in attempts:
        record = at_time(observe(record, Attempt(after(when), outcome), LIMITS), after(when), LIMITS)

    assert record.verdict in ("healthy", "degraded", "unhealthy")
    assert 0.0 <= record.error_rate <= 1.0
    assert len(record.recent) <= LIMITS.window
    assert (record.verdict == "unhealthy") == (record.probe_at is not None)


@pytest.mark.parametrize("outcome", [GOOD, BAD])
def test_a_provider_that_is_out_can_always_be_probed(outcome):
    record = watched(outcome, record=out(), start=6)

    assert record.verdict != "unhealthy" or record.probe_at is not None
