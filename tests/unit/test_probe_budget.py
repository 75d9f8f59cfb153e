"""The budget of probes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.routing.probe_budget import IN_FLIGHT_LIMIT, URGENT_AFTER, ProbeBudget, ProbeTarget
from tests.examples import NOON, after, an_id, seconds

PROVIDER, OTHER = an_id(), an_id()
LIMIT, PATIENCE = IN_FLIGHT_LIMIT.total_seconds(), URGENT_AFTER.total_seconds()


def target(provider=PROVIDER, destination="", probe_at=NOON, interval=0.0, results=0):
    return ProbeTarget(provider, destination, probe_at, interval, results)


@pytest.mark.parametrize("probe_at", [None, after(0.1)])
def test_no_probe_is_allowed_before_its_time(probe_at):
    assert not ProbeBudget().allow(target(probe_at=probe_at), NOON, False)


@pytest.fixture
def probing():
    """A budget with a probe in flight since noon, and its delivery."""
    budget, delivery_id = ProbeBudget(), an_id()
    assert budget.allow(target(), NOON, False)
    budget.consume(target(), delivery_id, NOON)
    return budget, delivery_id


def test_one_probe_is_in_flight_at_a_time(probing):
    budget, delivery_id = probing
    assert [budget.allow(target(), after(time), False) for time in (0, 10, LIMIT - 1)] == [False] * 3

    budget.end(delivery_id)

    assert budget.allow(target(), NOON, False)


def test_a_result_that_the_health_service_has_seen_is_the_end_of_a_probe(probing):
    assert probing[0].allow(target(results=1), after(0.2), False)


def test_a_new_probe_time_allows_no_second_one(probing):
    assert not probing[0].allow(target(probe_at=after(10)), after(10), False)


def test_a_probe_whose_end_is_not_seen_counts_for_a_while(probing):
    assert probing[0].allow(target(), after(LIMIT), False)


def test_the_end_of_another_delivery_changes_nothing(probing):
    probing[0].end(an_id())

    assert not probing[0].allow(target(), after(10), False)


def test_the_late_end_of_an_old_probe_does_not_end_the_new_one(probing):
    budget, old = probing
    budget.consume(target(), an_id(), after(LIMIT))

    budget.end(old)

    assert not budget.allow(target(), after(LIMIT + 1), False)


@pytest.mark.parametrize("other", [target(OTHER), target(destination="+44")])
def test_each_provider_and_destination_has_its_own_budget(probing, other):
    assert probing[0].allow(other, NOON, False)


def test_probes_of_a_degraded_provider_have_a_pause(probing):
    budget, delivery_id = probing
    budget.end(delivery_id)

    assert [budget.allow(target(interval=6.0), after(time), False) for time in (0, 5.9, 6)] == [False, False, True]


def test_urgent_messages_probe_only_when_no_other_message_has_come():
    budget = ProbeBudget()

    assert [budget.allow(target(), after(time), True) for time in (0, PATIENCE - 1, PATIENCE)] == [False, False, True]


@given(st.lists(st.tuples(st.sampled_from(["probe", "end", "wait"]), st.integers(0, 30)), max_size=60))
def test_never_more_than_one_probe_is_in_flight(steps):
    budget, now, in_flight = ProbeBudget(), 0.0, {}
    for step, number in steps:
        if step == "wait":
            now += number
        elif step == "end" and in_flight:
            budget.end(ended := sorted(in_flight)[number % len(in_flight)])
            del in_flight[ended]
        elif step == "probe" and budget.allow(target(interval=3.0), after(now), False):
            budget.consume(target(interval=3.0), delivery := an_id(), after(now))
            in_flight[delivery] = now
        in_flight = {one: began for one, began in in_flight.items() if seconds(now - began) < IN_FLIGHT_LIMIT}
        assert len(in_flight) <= 1


def kept(budget):
    return len(budget._newest), len(budget._probed)


def test_an_accepted_probe_leaves_nothing_behind_when_the_next_one_begins():
    """A provider that is degraded by missing receipts is probed every six seconds, for days."""
    budget = ProbeBudget()

    for number in range(100):
        budget.consume(target(interval=6.0), an_id(), after(6.0 * number))

    assert kept(budget) == (1, 1)


def test_targets_that_are_not_probed_any_more_are_forgotten():
    budget = ProbeBudget()

    for number in range(100):
        budget.consume(target(destination=f"d{number}.example", interval=20.0), an_id(), after(float(number)))

    assert kept(budget) == (20, 20)
    assert not budget.allow(target(destination="d99.example", interval=20.0, results=1), after(118.0), False)


def test_a_delivery_that_probes_a_second_target_ends_that_probe_after_the_first_one_is_forgotten():
    budget, delivery_id = ProbeBudget(), an_id()
    budget.consume(target(), delivery_id, NOON)
    budget.end(delivery_id)
    budget.consume(target(OTHER), delivery_id, after(1))
    budget.consume(target(), an_id(), after(2))

    budget.end(delivery_id)

    assert budget.allow(target(OTHER), after(3), False)
