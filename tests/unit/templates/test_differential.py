"""Generated templates, rendered here and by handlebars.js; ``HANDLEBARS_CASES=20000`` runs more than the usual 600.

The two agree in the output or in refusing. Only here a helper that does not exist, wrong arguments, and block
parameters that nothing binds are errors although the template might never execute them.
"""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.templates.limits import TemplateSyntaxError
from sluice.templates.template import compile_template
from sluice.templates.values import text_of
from tests.unit.templates.generated import Templates

CASES = int(os.environ.get("HANDLEBARS_CASES", "600"))
STRICTER = re.compile("there is no (block )?helper|takes|is a block helper|binds no block parameters")


@pytest.mark.timeout(60 + CASES)
@settings(max_examples=CASES, deadline=None)
@given(st.integers(0, 2**64 - 1), st.booleans())  # as choices of hypothesis, most templates would be a line of text
def test_the_output_is_that_of_handlebars_js(handlebars_js, seed, html):
    generated = Templates(seed)
    source, variables = generated.template(), generated.variables()

    expected = handlebars_js.render(source, variables, html=html)
    try:
        text, error = compile_template(source, html).render(variables), None
    except TemplateSyntaxError as refused:
        text, error = None, refused.message

    if error is None or not STRICTER.search(error):
        assert text == expected.text, {"source": source, "variables": variables, "error": error, "theirs": expected}


def test_few_generated_templates_are_broken(handlebars_js):
    """The comparison is worth something: most templates render, and not to nothing."""
    generated = [Templates(seed) for seed in range(100)]
    outputs = [handlebars_js.render(one.template(), one.variables(), html=True) for one in generated]

    assert sum(bool(output.text and output.text.strip()) for output in outputs) > 50
    assert any(output.error for output in outputs)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS | st.integers(-(2**53), 2**53))
def test_a_number_prints_as_in_javascript(handlebars_js, number):
    assert text_of(number) == handlebars_js.render("{{n}}", {"n": number}, html=True).text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(JSON)
def test_a_value_prints_and_branches_as_in_javascript(handlebars_js, value):
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
