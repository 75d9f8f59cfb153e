"""The budget of half-open budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.routing.probe_budget import MAX_PROBES, ProbeBudget
from tests.examples import NOON, a_provider, after, an_id, health_of

UNHEALTHY, OTHER = a_provider(1), a_provider(2)


def unhealthy(probe_at=NOON, provider=UNHEALTHY):
    return health_of(provider, "unhealthy", probe_at=probe_at)


@pytest.fixture
def spent():
    """A budget whose probes of noon are consumed."""
    budget = ProbeBudget()
    for _ in range(MAX_PROBES):
        assert budget.allow(unhealthy(), NOON)
        probe = an_id()
        budget.consume(unhealthy(), probe, NOON)
        budget.end(probe)
    return budget


def test_a_window_allows_a_few_probes_only(spent):
    assert [spent.allow(unhealthy(), after(time)) for time in (0, 9.9, 10)] == [False, False, True]


def test_each_window_has_its_own_budget(spent):
    for _ in range(MAX_PROBES):
        probe = an_id()
        spent.consume(unhealthy(), probe, after(10))
        spent.end(probe)

    assert [spent.allow(unhealthy(), after(time)) for time in (10, 20)] == [False, True]


def test_a_new_probe_time_starts_a_new_budget(spent):
    assert spent.allow(unhealthy(after(5)), after(5))


def test_each_provider_has_its_own_budget(spent):
    assert spent.allow(unhealthy(provider=OTHER), NOON)


@pytest.mark.parametrize("probe_at", [None, after(0.1)])
def test_no_probe_is_allowed_before_its_time(probe_at):
    assert not ProbeBudget().allow(unhealthy(probe_at), NOON)


@pytest.fixture
def hanging():
    """A budget whose probes of noon have no end yet, and their deliveries."""
    budget, deliveries = ProbeBudget(), [an_id() for _ in range(MAX_PROBES)]
    for delivery_id in deliveries:
        budget.consume(unhealthy(), delivery_id, NOON)
    return budget, deliveries


def test_probes_in_flight_count_in_the_next_window(hanging):
    budget, deliveries = hanging
    assert [budget.allow(unhealthy(), after(time)) for time in (10, 30, 59)] == [False] * 3

    budget.end(deliveries[0])

    assert budget.allow(unhealthy(), after(30))


def test_probes_in_flight_count_after_a_new_probe_time(hanging):
    assert not hanging[0].allow(unhealthy(after(20)), after(20))


def test_a_probe_whose_end_is_not_seen_counts_for_a_minute(hanging):
    assert hanging[0].allow(unhealthy(), after(60))


def test_the_end_of_another_delivery_changes_nothing(hanging):
    hanging[0].end(an_id())

    assert not hanging[0].allow(unhealthy(), after(30))


@given(st.lists(st.tuples(st.sampled_from(["probe", "end", "wait"]), st.integers(0, 30)), max_size=60))
def test_never_more_than_the_budget_is_in_flight_or_sent_in_a_window(steps):
    budget, now, in_flight, sent = ProbeBudget(), 0.0, {}, []
    for step, number in steps:
        if step == "wait":
            now += number
        elif step == "end" and in_flight:
            budget.end(ended := sorted(in_flight)[number % len(in_flight)])
            del in_flight[ended]
        elif step == "probe" and budget.allow(unhealthy(), after(now)):
            budget.consume(unhealthy(), delivery := an_id(), after(now))
            in_flight[delivery] = now
            sent.append(now)
        in_flight = {one: began for one, began in in_flight.items() if now - began < 60}
        assert len(in_flight) <= MAX_PROBES
        assert len([at for at in sent if at == now]) <= MAX_PROBES
