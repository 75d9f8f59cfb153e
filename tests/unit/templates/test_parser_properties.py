"""What holds for every source, template or not."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from sluice.templates.limits import TemplateSyntaxError
from sluice.templates.template import compile_template
from sluice.templates.values import escape

PIECES = [
    *(
        "{{",
        "}}",
        "{{{",
        "}}}",
        "{{#",
        "{{/",
        "{{^",
        "{{else",
        "{{!",
        "{{!--",
        "--}}",
        "{{&",
        "{{>",
        "{{*",
        "{{{{",
        "}}}}",
    ),
    *(
        "~",
        "if",
        "each",
        "with",
        "a",
        "b.c",
        "../",
        "this",
        ".",
        "..",
        "@index",
        "@",
        "[x]",
        "[",
        "]",
        "(",
        ")",
        "=",
        "|",
    ),
    *(
        "as |",
        "uppercase",
        "default",
        '"s"',
        "'",
        '"',
        "1",
        "-2.5",
        "true",
        "null",
        "\\",
        "\\{{",
        "\\\\{{",
        " ",
        "\n",
        "\t",
    ),
    *("\r\n", "é", "\u2028", "\ufeff", "\0", "\U0001f600", "#", "/", "^", "!"),
]
sources = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join)
VARIABLES = {"a": [1, {"b": "<"}], "b": {"c": "x"}, "x": "y"}


@given(sources)
@example("{{#if a}}{{else if b}}{{^}}{{/if}}")
@example("{{@.}}{{@..}}{{#@../x}}{{/@../x}}")
def test_a_source_renders_or_is_refused_at_a_place_in_it(source):
    try:
        template = compile_template(source, html=True)
    except TemplateSyntaxError as refused:
        error = refused
    else:
        template.render(VARIABLES)
        return
    lines = source.split("\n")
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    assert error.message


@given(sources)
def test_compiling_twice_gives_the_same(source):
    def attempt():
        try:
            template = compile_template(source, html=True)
            return template.variables, template.render(VARIABLES)
        except TemplateSyntaxError as error:
            return str(error)

    assert attempt() == attempt()


@given(st.text().filter(lambda text: "{{" not in text and "\0" not in text))
def test_text_without_tags_is_its_own_output(text):
    assert compile_template(text, html=True).render({}) == text


def plain(text):
    """Whether ``text`` keeps its meaning beside a tag: no brace or backslash joins the tag's braces."""
    return "{{" not in text and "\0" not in text and not text.endswith(("\\", "{")) and not text.startswith("}")


@given(st.text(), st.text().filter(plain))
def test_a_variable_stands_between_the_texts_around_it(value, text):
    assert compile_template(f"{text}{{{{v}}}}{text}", html=False).render({"v": value}) == text + value + text


@given(st.text())
def test_no_variable_adds_markup(value):
    output = compile_template("<a title='{{v}}' {{v}}>{{v}}{{uppercase v}}</a>", html=True).render({"v": value})
    inner = output.removeprefix("<a title='").removesuffix("</a>")

    assert re.sub("[^<>'\"=`]", "", inner) == "'>"
    assert compile_template("{{v}}", html=True).render({"v": value}) == escape(value)
