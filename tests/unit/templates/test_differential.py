"""Random templates, rendered here and by handlebars.js; ``HANDLEBARS_CASES=20000`` runs more than the usual 600.

The two agree in the output or in refusing. Only here a helper that does not exist, wrong arguments, and block
parameters that nothing binds are errors although the template might never execute them.
"""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.templates.limits import TemplateSyntaxError
from sluice.templates.template import compile_template
from sluice.templates.values import text_of
from tests.unit.templates import handlebars_js
from tests.unit.templates.generated import Templates

CASES = int(os.environ.get("HANDLEBARS_CASES", "600"))
CHUNKS = 12

pytestmark = pytest.mark.usefixtures("reference")


@pytest.fixture(scope="module")
def reference():
    """handlebars.js, installed from its lock file."""
    handlebars_js.require()


STRICTER = re.compile("there is no (block )?helper|takes|is a block helper|binds no block parameters")


def compare(seed):
    """None, or the difference for a seed; in one of three templates nothing is escaped."""
    generated = Templates(seed)
    source, variables, html = generated.template(), generated.variables(), seed % 3 > 0
    expected = handlebars_js.render(source, variables, html=html)
    try:
        text, error = compile_template(source, html).render(variables), None
    except TemplateSyntaxError as refused:
        text, error = None, refused.message
    if text == expected.text or (error and STRICTER.search(error)):
        return None
    return {"seed": seed, "source": source, "variables": variables, "ours": text or error, "theirs": expected}


@pytest.mark.timeout(30 + CASES)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_output_is_that_of_handlebars_js(chunk):
    assert [difference for seed in range(chunk, CASES, CHUNKS) if (difference := compare(seed))] == []


def test_few_templates_are_broken():
    """The comparison is worth something: most templates render, and not to nothing."""
    outputs = [
        handlebars_js.render(each.template(), each.variables(), html=True) for each in map(Templates, range(100))
    ]

    assert sum(bool(output.text and output.text.strip()) for output in outputs) > 50
    assert any(output.error for output in outputs)


# Twelve digits: quickjs does not find the shortest form of every power of two.
FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: float(f"{number:.12g}"))


@given(FLOATS | st.integers(-(2**53), 2**53))
def test_a_number_prints_as_in_javascript(number):
    assert text_of(number) == handlebars_js.render("{{n}}", {"n": number}, html=True).text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(JSON)
def test_a_value_prints_and_branches_as_in_javascript(value):
    source = (
        "{{v}}|{{{v}}}|{{#if v}}y{{else}}n{{/if}}|{{#with v}}y{{else}}n{{/with}}|{{#v}}y{{else}}n{{/v}}|{{v.length}}"
    )
    ours = compile_template(source, html=True).render({"v": value})
    theirs = handlebars_js.render(source, {"v": value}, html=True).text
    astral = isinstance(value, str) and any(ord(character) > 0xFFFF for character in value)

    assert theirs is not None
    # A length counts characters here and UTF-16 units there.
    assert ours.rpartition("|")[0] == theirs.rpartition("|")[0]
    assert astral or ours == theirs
