"""Arrivals are drawn before the run, and drawn alike by every process that shares them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.arrivals import constant, draw, poisson, share

rates = st.floats(min_value=0.5, max_value=500)
seconds = st.floats(min_value=0.1, max_value=10)


def test_constant_arrivals_are_equally_far_apart():
    assert constant(4, 1.0) == [0.0, 0.25, 0.5, 0.75]


@given(rate=rates, length=seconds, seed=st.integers(0, 1000))
def test_poisson_arrivals_are_in_order_and_within_the_run(rate, length, seed):
    times = poisson(rate, length, seed)

    assert all(0 <= moment < length for moment in times)
    assert all(earlier <= later for earlier, later in pairwise(times))


def test_poisson_arrivals_come_at_their_rate_and_with_its_variance():
    times = poisson(1000, 100, seed=7)
    counts = [0] * 1000
    for moment in times:
        counts[int(moment * 10)] += 1
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)

    assert mean == pytest.approx(100, rel=0.02)
    # In a Poisson process the counts vary as much as they average; a paced generator would give about nothing.
    assert variance == pytest.approx(mean, rel=0.15)


def test_the_same_seed_draws_the_same_arrivals():
    assert draw("poisson", 50, 5, 3) == draw("poisson", 50, 5, 3)
    assert draw("poisson", 50, 5, 3) != draw("poisson", 50, 5, 4)


@given(rate=rates, length=seconds, of=st.integers(1, 5))
def test_the_shares_of_all_processes_are_the_whole(rate, length, of):
    times = draw("poisson", rate, length, 1)

    shared = sorted(one for index in range(of) for one in share(times, index, of))

    assert shared == list(enumerate(times))


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_must_be_above_zero(rate):
    with pytest.raises(ValueError, match="above zero"):
        draw("constant", rate, 1, 0)


def test_another_kind_of_arrivals_is_refused():
    with pytest.raises(ValueError, match="bursty"):
        draw("bursty", 1, 1, 0)
