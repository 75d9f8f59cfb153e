"""The measures that decide: named once, bounded in the right direction."""

import re

import pytest

from bench.measures import BY_NAME, MEASURES


def test_no_name_is_given_twice():
    assert len(BY_NAME) == len(MEASURES)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_name_is_stable_and_a_goal_lies_beyond_its_must(measure):
    assert re.fullmatch(r"[a-z0-9_]+", measure.name)
    assert measure.goal >= measure.must if measure.at_least else measure.goal <= measure.must


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("saturation_over_floor_k", 0.39, "missed"),
        ("saturation_over_floor_k", 0.40, "must"),
        ("saturation_over_floor_k", 0.60, "goal"),
        ("failover_lost", 0, "goal"),
        ("failover_lost", 1, "missed"),
        ("memory_idle_mb", 451, "must"),
    ],
)
def test_what_is_reached(name, value, word):
    assert BY_NAME[name].reached(value) == word
