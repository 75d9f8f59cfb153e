"""The language by area: the expected output, here and from handlebars.js."""

import pytest

from sluice.templates.template import compile_template
from tests.unit.templates.cases import AREAS, SHOP

CASES = [
    pytest.param(source, expected, id=f"{area}-{number}")
    for area, cases in AREAS.items()
    for number, (source, expected) in enumerate(cases)
]


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_the_output_is_as_expected(source, expected):
    assert compile_template(source, html=True).render(SHOP) == expected


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_handlebars_js_agrees(handlebars_js, source, expected):
    assert handlebars_js.render(source, SHOP, html=True) == (expected, None)


def test_text_parts_are_not_escaped():
    assert compile_template("{{html}}{{uppercase html}}", html=False).render({"html": "<&>"}) == "<&><&>"


def test_a_rendering_leaves_nothing_behind():
    template = compile_template("{{#each l as |x|}}{{x}}{{@index}}{{/each}}{{x}}{{@index}}", html=True)

    assert [template.render({"l": [7]}), template.render({"l": []}), template.render({"l": [8]})] == ["70", "", "80"]
