"""The circuit breaker: attempts in, health status out."""

from dataclasses import replace
from datetime import timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.health.breaker import DEGRADED, HEALTHY, UNHEALTHY, Attempt, HealthThresholds, ProviderStats, decay, observe
from tests.examples import NOON, after, seconds

LIMITS = HealthThresholds()
GOOD, BAD, UNSURE, UNRESPONSIVE = "accepted", "provider_fault", "unknown", "unresponsive"


def observed(*outcomes, limits=LIMITS, stats=None, start=0.0, every=0.1, **fields):
    """The statistics after these outcomes, by default one every tenth of a second."""
    attempts = [Attempt(after(start + number * every), outcome, **fields) for number, outcome in enumerate(outcomes)]
    return reduce(lambda stats, attempt: observe(stats, attempt, limits), attempts, stats or ProviderStats())


def an_unhealthy_provider():
    """The statistics of a provider that became unhealthy at noon, with a probe five seconds later."""
    stats = observed(*[BAD] * LIMITS.consecutive_failures, start=-0.4)
    assert (stats.status, stats.probe_at) == (UNHEALTHY, after(5))
    return stats


def a_degraded_provider():
    """The statistics of a provider that became degraded by its error rate at noon."""
    stats = observed(*[GOOD] * 20, BAD, BAD, start=-2.1)
    assert (stats.status, stats.cause, stats.probe_at) == (DEGRADED, "errors", after(LIMITS.degraded_probe_interval))
    return stats


# Rates.


def test_a_provider_without_attempts_is_healthy():
    assert ProviderStats().status == HEALTHY


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([*[GOOD] * 49, BAD] * 6, HEALTHY),  # 2 %
        ([*[GOOD] * 90, *[BAD, GOOD] * 3, BAD, BAD, BAD], DEGRADED),
        ([*[GOOD] * 20, BAD, BAD], DEGRADED),
        ([GOOD, BAD] * 20, UNHEALTHY),
    ],
)
def test_the_error_rate_decides(outcomes, status):
    assert observed(*outcomes).status == status


def test_the_error_rate_of_few_attempts_is_not_evaluated():
    assert observed(*[BAD, GOOD] * 9).status == HEALTHY


def test_evidence_loses_half_its_weight_in_a_half_life():
    stats = observed(*[GOOD] * 10, *[BAD] * 4, every=0.0)

    later = decay(stats, after(LIMITS.half_life), LIMITS)

    assert (later.calls, later.failures) == (7.0, 2.0)


def test_what_was_long_ago_does_not_count():
    stats = observed(*[BAD, BAD, GOOD] * 6, every=0.0)

    assert observed(*[GOOD] * 30, BAD, stats=stats, start=20 * LIMITS.half_life).status == HEALTHY


def test_a_rejected_recipient_is_no_evidence():
    assert observed(*["recipient_rejected", "declined"] * 250) == ProviderStats()


def test_an_unknown_outcome_counts_more_than_a_fault():
    assert observed(UNSURE, GOOD).error_rate > observed(BAD, GOOD).error_rate


def test_consecutive_failures_make_a_provider_unhealthy():
    assert [observed(*[BAD] * count).status for count in (4, 5)] == [HEALTHY, UNHEALTHY]
    assert [observed(*[UNSURE] * count).status for count in (2, 3)] == [HEALTHY, UNHEALTHY]


def test_a_success_resets_the_consecutive_failures():
    assert observed(*[BAD] * 4, GOOD, *[BAD] * 4).status == HEALTHY


# Latency.


def test_slow_calls_in_a_row_degrade_a_provider():
    usual = observed(*[GOOD] * 30, duration=0.2)

    slow = [observed(*[GOOD] * count, stats=usual, start=10, duration=3.0) for count in (4, 5)]

    assert [(stats.status, stats.cause) for stats in slow] == [(HEALTHY, ""), (DEGRADED, "slow")]


def test_a_call_is_slow_by_the_providers_own_usual_latency():
    usual = observed(*[GOOD] * 30, duration=1.0)

    assert observed(*[GOOD] * 30, stats=usual, start=10, duration=3.0).status == HEALTHY


def test_half_of_the_calls_slow_is_enough():
    stats = observed(*[GOOD] * 30, duration=0.2)
    for number in range(200):
        stats = observe(stats, Attempt(after(10 + number), GOOD, duration=3.0 if number % 5 else 0.2), LIMITS)

    assert (stats.status, stats.cause) == (DEGRADED, "slow")


# Unresponsiveness.


def test_an_unresponsive_provider_is_degraded_at_once():
    stats = observed(*[GOOD] * 30, UNRESPONSIVE)

    assert (stats.status, stats.reason) == (DEGRADED, "unresponsive: no call ends")


def test_calls_that_began_before_do_not_bring_it_back():
    stats = observed(UNRESPONSIVE)

    assert observed(*[GOOD] * 20, stats=stats, start=0.1, every=0.0, duration=5.0).status == DEGRADED


def test_timeouts_of_probes_open_the_breaker_of_an_unresponsive_provider():
    stats = observed(UNRESPONSIVE)

    assert observed(*[UNSURE] * 3, stats=stats, start=20, every=10, duration=10.0).status == UNHEALTHY


def test_a_report_does_not_change_an_open_breaker():
    assert observed(UNRESPONSIVE, stats=an_unhealthy_provider(), start=1.0) == an_unhealthy_provider()


# The way back.


def test_a_failed_probe_doubles_the_backoff():
    assert observe(an_unhealthy_provider(), Attempt(after(6), BAD), LIMITS).probe_at == after(16)


def test_the_backoff_has_a_maximum():
    stats = an_unhealthy_provider()
    for _ in range(40):
        stats = observe(stats, Attempt(stats.probe_at, BAD), LIMITS)

    pause = observe(stats, Attempt(stats.probe_at, BAD), LIMITS).probe_at - stats.probe_at
    assert pause == seconds(LIMITS.max_backoff)


def test_jitter_shortens_the_backoff():
    assert observe(observed(*[BAD] * 4), Attempt(after(1), BAD), LIMITS, 0.5).probe_at == after(3.5)


def test_enough_successful_probes_make_a_provider_healthy():
    statuses = [observed(*[GOOD] * count, stats=an_unhealthy_provider(), start=6).status for count in (1, 2, 3)]

    assert statuses == [UNHEALTHY, UNHEALTHY, HEALTHY]


def test_a_failed_probe_resets_the_successful_ones():
    assert observed(GOOD, GOOD, BAD, stats=an_unhealthy_provider(), start=6).probe_successes == 0


@pytest.mark.parametrize("outcome", [GOOD, BAD])
def test_the_end_of_a_call_that_began_before_is_no_probe(outcome):
    stats = observed(*[outcome] * 3, stats=an_unhealthy_provider(), start=6, duration=7.0)

    assert (stats.status, stats.probe_successes, stats.probe_at) == (UNHEALTHY, 0, after(5))


def test_failures_from_before_the_recovery_do_not_count():
    stats = observed(*[GOOD] * 3, stats=an_unhealthy_provider(), start=6)

    assert observed(BAD, stats=stats, start=7).status == HEALTHY


def test_a_relapse_waits_longer_and_is_forgiven_with_time():
    back = observed(*[GOOD] * 3, stats=an_unhealthy_provider(), start=6)
    pauses = []
    for start in (10, 10 + 5 * LIMITS.forgive_after):
        stats = observed(*[BAD] * 5, stats=back, start=start)
        pauses.append((stats.probe_at - stats.changed_at).total_seconds())

    assert pauses == [10.0, 5.0]


def test_shortly_after_its_return_a_provider_relapses_with_less_evidence():
    back = observed(*[GOOD] * 3, stats=an_unhealthy_provider(), start=6)

    assert [observed(BAD, BAD, stats=back, start=start).status for start in (10, 1000)] == [UNHEALTHY, HEALTHY]


def test_at_a_high_volume_two_failures_in_a_row_are_chance_on_probation_too():
    back = observed(*[GOOD] * 3, stats=an_unhealthy_provider(), start=6)
    busy = observed(*[GOOD] * 600, stats=back, start=10, every=1 / 30)

    assert observed(BAD, BAD, stats=busy, start=30).status == HEALTHY
    assert observed(*[BAD] * LIMITS.consecutive_failures, stats=busy, start=30).status == UNHEALTHY


def a_relapsed_provider(times=1):
    """The statistics of a provider that failed again soon after each of its returns; its probe is due 100 s later."""
    stats, at = an_unhealthy_provider(), 6.0
    for _ in range(times):
        stats = observed(*[GOOD] * 200, stats=stats, start=at + 100, every=0.5)
        at += 200
        assert stats.status == HEALTHY
        stats = observed(*[BAD] * LIMITS.consecutive_failures, stats=stats, start=at)
    assert (stats.status, stats.relapses) == (UNHEALTHY, times)
    return stats, at + 100


@pytest.mark.parametrize(("relapses", "hold"), [(1, 10), (2, 20), (3, 30), (4, 30)])
def test_each_recent_relapse_delays_the_next_return(relapses, hold):
    stats, start = a_relapsed_provider(relapses)

    statuses = [observed(*[GOOD] * count, stats=stats, start=start, every=1).status for count in (hold, hold + 1)]

    assert statuses == [UNHEALTHY, HEALTHY]


def test_one_failed_probe_of_many_does_not_prolong_the_delay():
    stats, start = a_relapsed_provider()

    assert observed(*[GOOD] * 5, BAD, *[GOOD] * 5, stats=stats, start=start, every=1).status == HEALTHY


@pytest.mark.parametrize("outcomes", [[BAD], [GOOD, GOOD, BAD], [*[GOOD] * 5, BAD, BAD], [*[GOOD] * 5, UNSURE]])
def test_other_failed_probes_begin_a_new_pause(outcomes):
    stats, start = a_relapsed_provider()

    stats = observed(*outcomes, stats=stats, start=start, every=1)

    assert (stats.status, stats.probe_successes, stats.recovering_since) == (UNHEALTHY, 0, None)
    assert stats.probe_at > after(start + len(outcomes))


def test_a_relapse_is_forgotten_after_a_long_healthy_time():
    stats, start = a_relapsed_provider()
    back = observed(*[GOOD] * 20, stats=stats, start=start, every=1)

    assert observed(*[BAD] * 5, stats=back, start=start + 20 + LIMITS.forgive_after).relapses == 0


def test_a_degraded_provider_returns_after_good_probes_in_a_row():
    enough = LIMITS.degraded_probe_successes
    statuses = [
        observed(*outcomes, stats=a_degraded_provider(), start=6, every=6).status
        for outcomes in ([GOOD] * (enough - 1), [GOOD] * enough, [*[GOOD] * (enough - 1), BAD, GOOD])
    ]

    assert statuses == [DEGRADED, HEALTHY, DEGRADED]


def test_slow_probes_do_not_bring_a_provider_back():
    stats = observed(*[GOOD] * 20, stats=a_degraded_provider(), start=6, every=6, duration=4.0)

    assert stats.status == DEGRADED


def test_a_degraded_provider_that_fails_becomes_unhealthy():
    assert observed(*[BAD] * 5, stats=a_degraded_provider(), start=6, every=6).status == UNHEALTHY


def test_time_alone_changes_no_status():
    for stats in (an_unhealthy_provider(), a_degraded_provider()):
        assert decay(stats, NOON + timedelta(days=1), LIMITS).status == stats.status


# Destinations.


def there(outcome, at, destination="+44", **fields):
    return Attempt(after(at), outcome, destination=destination, **fields)


def failing_there(count=5, stats=None, start=0.0):
    """Of ten attempts one goes to +44, where all fail; before, all was well."""
    stats = stats or observed(*[GOOD] * 400, start=start - 40)
    for number in range(10 * count):
        attempt = there(BAD, start + number) if number % 10 == 9 else there(GOOD, start + number, "+49")
        stats = observe(stats, attempt, LIMITS)
    return stats


def test_a_failure_at_one_destination_leaves_the_others_alone():
    stats = failing_there()

    assert (stats.status, {name: each.status for name, each in stats.destinations.items()}) == (
        HEALTHY,
        {"+44": UNHEALTHY},
    )
    assert stats.failures < 1


@pytest.mark.parametrize("before", [0, 400])
def test_a_provider_that_fails_where_all_messages_go_is_itself_at_fault(before):
    """An outage seen by an installation that sends to one country: it must not be hidden as a destination's."""
    stats = observed(*[GOOD] * before, *[BAD] * 5, destination="+44", every=0.1)

    assert (stats.status, stats.reason) == (UNHEALTHY, "5 consecutive failures")


def test_a_provider_that_often_fails_where_all_messages_go_is_itself_at_fault():
    stats = observed(*([GOOD] * 400), *[GOOD, GOOD, BAD] * 40, destination="+44", every=0.1)

    assert (stats.status, stats.cause) == (DEGRADED, "errors")


def test_an_outage_at_two_destinations_is_one_of_the_provider():
    """Nearly all messages go to +44; the few to +49 had worked before."""
    stats = observed(*[GOOD] * 3, *[BAD], *[GOOD] * 20, destination="+44", every=0.1)
    stats = observed(*[GOOD] * 5, stats=stats, start=3, destination="+49", every=0.1)

    assert observed(*[BAD] * 5, stats=stats, start=4, destination="+44", every=0.1).status == UNHEALTHY


def test_the_probes_of_a_destination_say_nothing_of_the_provider():
    stats = failing_there()
    for number in range(10):
        stats = observe(stats, there(BAD, 100 + 10 * number), LIMITS)

    assert (stats.status, stats.destinations["+44"].status) == (HEALTHY, UNHEALTHY)


def test_a_destination_that_returned_and_fails_again_leaves_the_others_alone():
    stats = failing_there()
    for number in range(3):
        stats = observe(stats, there(GOOD, 100 + number), LIMITS)

    stats = failing_there(stats=stats, start=130)

    assert (stats.status, stats.destinations["+44"].status) == (HEALTHY, UNHEALTHY)


def test_a_destination_returns_by_its_own_probes():
    stats = failing_there()
    for number in range(3):
        stats = observe(stats, there(GOOD, 100 + number), LIMITS)

    assert (stats.status, stats.destinations["+44"].status) == (HEALTHY, HEALTHY)


def test_a_destination_without_failures_has_no_statistics():
    assert observed(*[GOOD] * 50, destination="+44").destinations == {}


def test_destinations_are_bounded():
    stats = ProviderStats()
    for number in range(200):
        stats = observe(stats, there(BAD, number, f"d{number}.example"), LIMITS)
        stats = observe(stats, there(GOOD, number, "good.example"), LIMITS)

    assert len(stats.destinations) <= 32


def test_the_recovery_of_a_provider_is_that_of_its_destinations():
    stats = observed(*[BAD] * 6, stats=failing_there(), start=60)
    assert stats.status == UNHEALTHY

    stats = observed(*[GOOD] * 3, stats=stats, start=100)

    assert (stats.status, stats.destinations) == (HEALTHY, {})


# Credentials and throttling.


def test_refused_credentials_suspend_the_account_at_once():
    stats = observed("auth_failed")

    assert (stats.status, stats.suspended_until) == (UNHEALTHY, after(LIMITS.auth_suspension))


def test_a_second_refusal_doubles_the_suspension():
    assert observed("auth_failed", "auth_failed", start=-0.1).suspended_until == after(2 * LIMITS.auth_suspension)


def test_one_refusal_shortly_after_a_success_does_not_suspend():
    stats = observed(GOOD, "auth_failed", "auth_failed", GOOD, "auth_failed")

    assert (stats.status, stats.suspended_until) == (HEALTHY, None)


def test_three_consecutive_refusals_shortly_after_a_success_suspend():
    stats = observed(GOOD, *["auth_failed"] * 3, start=-0.3)

    assert (stats.status, stats.suspended_until) == (UNHEALTHY, after(LIMITS.auth_suspension))


def test_a_throttled_provider_is_not_called_for_the_pause_it_asked_for():
    stats = observe(ProviderStats(), Attempt(NOON, "throttled", seconds(30)), LIMITS)

    assert (stats.suspended_until, stats.status) == (after(30), HEALTHY)


def test_a_throttle_without_a_pause_lasts_the_default():
    assert observed("throttled").suspended_until == after(LIMITS.default_throttle)


def test_a_shorter_pause_does_not_end_a_longer_one():
    stats = observe(ProviderStats(suspended_until=after(60)), Attempt(NOON, "throttled", seconds(1)), LIMITS)

    assert stats.suspended_until == after(60)


# Anything.

OUTCOMES = st.sampled_from([GOOD, GOOD, BAD, UNSURE, UNRESPONSIVE, "throttled", "auth_failed", "recipient_rejected"])
ATTEMPTS = st.builds(
    Attempt,
    st.integers(-1_000, 1_000).map(after),
    OUTCOMES,
    duration=st.none() | st.floats(0, 100),
    destination=st.sampled_from(["", "", "+44", "example.com"]),
)


@given(st.lists(ATTEMPTS, max_size=80))
def test_any_attempts_in_any_order_give_one_of_three_statuses(attempts):
    stats = ProviderStats()
    for attempt in attempts:
        stats = decay(observe(stats, attempt, LIMITS), attempt.occurred_at, LIMITS)

        for each in (stats, *stats.destinations.values()):
            assert each.status in (HEALTHY, DEGRADED, UNHEALTHY)
            assert 0.0 <= each.error_rate <= 1.0
            assert min(each.calls, each.failures, each.slow_calls) >= 0
            assert each.status == HEALTHY or each.probe_at is not None
            assert each.reason or each.status == HEALTHY


@given(st.lists(ATTEMPTS, max_size=60))
def test_equal_attempts_give_equal_statistics(attempts):
    one = reduce(lambda stats, attempt: observe(stats, attempt, LIMITS), attempts, ProviderStats())
    other = reduce(lambda stats, attempt: observe(stats, replace(attempt), LIMITS), attempts, ProviderStats())

    assert one == other


@given(st.lists(ATTEMPTS, max_size=60))
def test_every_provider_can_return(attempts):
    stats = reduce(lambda stats, attempt: observe(stats, attempt, LIMITS), attempts, ProviderStats())
    now = 3_000.0
    for _ in range(LIMITS.degraded_probe_successes):
        now += 10_000
        stats = observe(stats, Attempt(after(now), GOOD, duration=0.1), LIMITS)

    assert stats.status == HEALTHY


# A probe that was asked for.


def test_a_probe_that_was_asked_for_may_be_made_at_once_and_counts():
    asked = observed("probe_requested", stats=an_unhealthy_provider(), start=1)

    assert (asked.status, asked.probe_at, asked.probe_results) == (UNHEALTHY, after(1), 0)
    assert observed(GOOD, stats=asked, start=1.5).probe_successes == 1


def test_a_probe_that_was_asked_for_ends_a_suspension_after_refused_credentials_and_no_pause():
    refused = observed("auth_failed")
    paused = observed("throttled", stats=an_unhealthy_provider(), start=1, retry_after=seconds(60))

    assert observed("probe_requested", stats=refused, start=2).suspended_until is None
    assert observed("probe_requested", stats=paused, start=2).suspended_until == after(61)


def test_after_a_probe_that_was_asked_for_the_pauses_of_refused_credentials_begin_again():
    refused = ProviderStats()
    for number in range(8):
        refused = observed("auth_failed", stats=refused, start=4000.0 * number)
    assert refused.suspended_until == after(28_000 + 3600)

    asked = observed("probe_requested", stats=refused, start=28_100)
    again = observed("auth_failed", stats=asked, start=28_101)

    assert again.suspended_until == after(28_101 + 60)


def test_a_healthy_provider_needs_no_probe():
    assert observed("probe_requested", stats=observed(GOOD), start=1) == observed(GOOD)
