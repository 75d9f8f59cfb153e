"""Percentiles are observations, ratios have a range, slopes are per tenfold growth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.statistics import Spread, longest_gap, ratios, slope
from sluice.runtime.percentile import percentile

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.505, 51), (0.99, 99), (0.991, 100), (0.999, 100), (1.0, 100)]
)
def test_a_percentile_of_one_to_a_hundred(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_percentile_of_nothing_is_nothing():
    assert percentile([], 0.99) is None


@given(values=values, share=st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_covers_its_share(values, share):
    found = percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_a_spread_has_count_and_range():
    assert Spread.of([3, 1, 2]).as_json() == {"median": 2, "min": 1, "max": 3, "pairs": 3}


def test_a_spread_of_nothing_is_nothing():
    assert Spread.of([]) is None


def test_a_pair_that_lacks_a_side_makes_no_ratio():
    assert ratios([(2.0, 4.0), (None, 1.0), (1.0, None), (1.0, 0.0), (0.0, 2.0)]) == [0.5, 0.0]


def test_a_slope_is_the_growth_for_ten_times_as_much():
    assert slope([(10, 1.0), (100, 1.5), (1000, 2.0)]) == pytest.approx(0.5)


@pytest.mark.parametrize("points", [[], [(10, 1.0)], [(10, 1.0), (10, 2.0)], [(0, 1.0), (10, 2.0)]])
def test_a_slope_needs_two_sizes(points):
    assert slope(points) is None


def test_the_longest_gap_counts_the_ends_of_the_span():
    assert longest_gap([1.0, 2.0, 9.0], start=0.0, end=10.0) == 7.0
    assert longest_gap([1.0], start=0.0, end=10.0) == 9.0
    assert longest_gap([-5.0, 50.0], start=0.0, end=10.0) == 10.0
