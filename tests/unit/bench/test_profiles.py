"""A paced form is another form, and says so."""

from bench.profiles import FULL, QUICK, paced


def test_the_full_form_has_the_pairs_that_the_issue_asks_for():
    assert FULL.pairs >= 5
    assert FULL.peer_pairs >= 5


def test_a_pace_of_one_changes_nothing():
    assert paced(QUICK, 1.0) is QUICK


def test_another_pace_shows_in_the_name_and_in_the_durations():
    half = paced(FULL, 0.5)

    assert half.name == "full x 0.5"
    assert half.fixed == FULL.fixed / 2
    assert half.pairs == FULL.pairs
