"""Folded stacks become a budget, a list of hot functions and a picture."""

from xml.etree import ElementTree

import pytest

from bench.flame import OTHER, budget, hottest, parse, svg

FOLDED = """\
main (gateway/app.py:1);execute (asyncpg/connection.py:9);write (asyncio/streams.py:3) 6
main (gateway/app.py:1);accept (gateway/accepting.py:7) 3
main (gateway/app.py:1);accept (gateway/accepting.py:8) 2
start (somewhere.py:1) 1
not a stack
"""


def test_the_innermost_known_frame_decides_on_the_step():
    found = budget(parse(FOLDED))

    assert found["the event loop"] == pytest.approx(6 / 12)
    assert found["deciding (gateway, router, delivery, health)"] == pytest.approx(5 / 12)
    assert found[OTHER] == pytest.approx(1 / 12)
    assert sum(found.values()) == pytest.approx(1)


def test_lines_of_one_function_count_together():
    assert hottest(parse(FOLDED))[1] == ("accept (gateway/accepting.py)", pytest.approx(5 / 12))


def test_nothing_has_no_budget():
    assert budget({}) == {}
    assert hottest({}) == []


def test_the_picture_is_well_formed_and_names_every_wide_frame():
    picture = svg(parse("a<b> (x.py:1);c (y.py:2) 9\na<b> (x.py:1) 1"), "gateway")

    titles = [node.text for node in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["a<b> (x.py) 100.00%", "c (y.py) 90.00%"]


def test_the_picture_of_nothing_is_well_formed():
    assert ElementTree.fromstring(svg({}, "idle")).tag.endswith("svg")
