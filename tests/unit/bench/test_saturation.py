"""The ladder finds the last rate that is kept up with, from below and from above."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.saturation import Ladder


def climb(ladder: Ladder, limit: float) -> Ladder:
    while not ladder.done:
        ladder.record(ladder.rate <= limit)
    return ladder


def test_it_climbs_until_a_rate_is_too_much():
    ladder = climb(Ladder(100), limit=130)

    assert [good for _, good in ladder.tried] == [True, True, True, False]
    assert ladder.best == pytest.approx(121)


def test_it_goes_down_from_a_first_rate_that_is_too_much():
    ladder = climb(Ladder(200), limit=150)

    assert [good for _, good in ladder.tried] == [False, False, False, False, True][-len(ladder.tried) :]
    assert ladder.best == pytest.approx(200 / 1.1**4) or ladder.best == pytest.approx(200 / 1.1**3)


@given(first=st.floats(1, 1e5), factor=st.floats(0.5, 2.0))
def test_what_it_finds_is_within_a_step_of_the_limit(first, factor):
    limit = first * factor

    ladder = climb(Ladder(first), limit)

    assert ladder.best is not None
    assert ladder.best <= limit < ladder.best * 1.1 * (1 + 1e-9)


def test_it_has_an_end_where_nothing_is_good():
    ladder = climb(Ladder(100, most=5), limit=0)

    assert len(ladder.tried) == 5
    assert ladder.best is None


def test_it_has_an_end_where_everything_is_good():
    ladder = climb(Ladder(100, most=5), limit=1e9)

    assert len(ladder.tried) == 5
    assert ladder.best == pytest.approx(100 * 1.1**4)


@pytest.mark.parametrize("wrong", [{"first": 0}, {"first": 1, "step": 1.0}, {"first": 1, "most": 0}])
def test_a_ladder_that_leads_nowhere_is_refused(wrong):
    with pytest.raises(ValueError, match="ladder"):
        Ladder(**wrong)
