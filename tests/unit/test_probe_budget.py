"""The budget of half-open budget."""

import pytest

from sluice.routing.probe_budget import PROBES_PER_WINDOW, ProbeBudget
from tests.examples import NOON, a_provider, after, health_of

UNHEALTHY, OTHER = a_provider(1), a_provider(2)


def unhealthy(probe_at=NOON, provider=UNHEALTHY):
    return health_of(provider, "unhealthy", probe_at=probe_at)


@pytest.fixture
def spent():
    """A budget whose probes of noon are consumed."""
    budget = ProbeBudget()
    for _ in range(PROBES_PER_WINDOW):
        assert budget.allow(unhealthy(), NOON)
        budget.consume(unhealthy(), NOON)
    return budget


def test_a_window_allows_a_few_probes_only(spent):
    assert [spent.allow(unhealthy(), after(time)) for time in (0, 9.9, 10)] == [False, False, True]


def test_each_window_has_its_own_budget(spent):
    for _ in range(PROBES_PER_WINDOW):
        spent.consume(unhealthy(), after(10))

    assert [spent.allow(unhealthy(), after(time)) for time in (10, 20)] == [False, True]


def test_a_new_probe_time_starts_a_new_budget(spent):
    assert spent.allow(unhealthy(after(5)), after(5))


def test_each_provider_has_its_own_budget(spent):
    assert spent.allow(unhealthy(provider=OTHER), NOON)


@pytest.mark.parametrize("probe_at", [None, after(0.1)])
def test_no_probe_is_allowed_before_its_time(probe_at):
    assert not ProbeBudget().allow(unhealthy(probe_at), NOON)
