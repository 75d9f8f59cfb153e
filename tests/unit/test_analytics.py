"""The histogram of durations, and what a history adds."""

from datetime import timedelta
from decimal import Context, Decimal
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model.analytics import BUCKETS, Histogram, HistoryEvent, bucket_of, value_of
from sluice.model.ids import uuid7
from sluice.store.analytics import _Delivery, rollups_of
from tests.examples import NOON, PROJECT, an_id

DURATIONS = st.lists(st.integers(0, (1 << 32) - 1) | st.integers(0, 5000), min_size=1, max_size=60)


def histogram_of(durations):
    numbers = {}
    for milliseconds in durations:
        bucket = bucket_of(timedelta(milliseconds=milliseconds))
        numbers[bucket] = numbers.get(bucket, 0) + 1
    return Histogram(sorted(numbers), [numbers[bucket] for bucket in sorted(numbers)])


@given(st.integers(0, (1 << 32) - 1))
def test_the_middle_of_a_bucket_is_near_each_of_its_values(milliseconds):
    bucket = bucket_of(timedelta(milliseconds=milliseconds))

    assert 0 <= bucket < BUCKETS
    assert abs(value_of(bucket) - milliseconds) <= max(0.5, 0.032 * milliseconds)
    assert bucket_of(timedelta(milliseconds=milliseconds + 1)) - bucket in (0, 1)


@pytest.mark.parametrize(("duration", "bucket"), [(-5, 0), (0, 0), (0.9, 0), (15, 15), (16, 16), (31, 31), (32, 32)])
def test_the_first_buckets_are_milliseconds(duration, bucket):
    assert bucket_of(timedelta(milliseconds=duration)) == bucket


def test_longer_durations_are_in_the_last_bucket():
    assert bucket_of(timedelta(days=3650)) == BUCKETS - 1


@given(DURATIONS, st.floats(0.001, 1.0))
def test_a_quantile_is_that_of_the_nearest_rank(durations, fraction):
    exact = sorted(durations)[ceil(fraction * len(durations)) - 1]

    [found] = histogram_of(durations).quantiles([fraction])
    assert found == pytest.approx(exact, rel=0.032, abs=0.5)


def test_no_duration_has_no_quantile():
    assert Histogram().quantiles([0.5, 1.0]) == [None, None]
    assert Histogram.parse("0") == Histogram(range(0), [])


@given(DURATIONS, DURATIONS)
def test_the_sum_of_two_numbers_is_the_histogram_of_both(first, second):
    merged = str(Context(prec=6000).add(Decimal(str(histogram_of(first))), Decimal(str(histogram_of(second)))))

    assert merged == str(histogram_of([*first, *second]))
    for fraction in (0.5, 0.95, 0.99):
        assert Histogram.parse(merged).quantiles([fraction]) == histogram_of([*first, *second]).quantiles([fraction])


@given(st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 10**12 - 1), max_size=9))
def test_a_number_has_the_numbers_of_all_buckets(numbers):
    parsed = Histogram.parse(str(Histogram(list(numbers), list(numbers.values()))))

    assert {b: n for b, n in zip(parsed.buckets, parsed.numbers, strict=True) if n} == numbers


def test_an_event_that_changes_no_number_adds_no_rollup():
    provider = an_id()
    events = [("sending", "SENDING"), ("sent", "SENT"), ("deferred", None)]
    history = tuple(HistoryEvent(type_, state, NOON, provider, 1) for type_, state in events)
    delivery = _Delivery(uuid7(), PROJECT, False, "email", (), None, 0, history)

    assert rollups_of([delivery])
    assert rollups_of([delivery._replace(counted=2)]) == {}
