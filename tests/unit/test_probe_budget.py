"""How often a provider that is out is tried."""

import pytest

from sluice.routing.probe_budget import PROBES_PER_WINDOW, ProbeBudget
from tests.examples import NOON, a_provider, after, health_of

OUT, OTHER = a_provider(1), a_provider(2)


def out(probe_at=NOON, provider=OUT):
    return health_of(provider, "unhealthy", probe_at=probe_at)


@pytest.fixture
def spent():
    """All probes of noon have gone."""
    probes = ProbeBudget()
    for _ in range(PROBES_PER_WINDOW):
        assert probes.allow(out(), NOON)
        probes.consume(out(), NOON)
    return probes


def test_a_few_go_and_then_none_until_they_have_had_their_time(spent):
    assert [spent.allow(out(), after(time)) for time in (0, 9.9, 10)] == [False, False, True]


def test_every_span_has_its_own(spent):
    for _ in range(PROBES_PER_WINDOW):
        spent.consume(out(), after(10))

    assert [spent.allow(out(), after(time)) for time in (10, 20)] == [False, True]


def test_a_new_verdict_allows_new_ones(spent):
    assert spent.allow(out(after(5)), after(5))


def test_each_provider_has_its_own(spent):
    assert spent.allow(out(provider=OTHER), NOON)


@pytest.mark.parametrize("probe_at", [None, after(0.1)])
def test_none_goes_before_its_time(probe_at):
    assert not ProbeBudget().allow(out(probe_at), NOON)
