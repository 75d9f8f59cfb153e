"""The faults that are refused when a template is saved, with their positions."""

import pytest

from sluice.templates import limits
from sluice.templates.limits import TemplateSyntaxError
from sluice.templates.template import compile_template

FAULTS = [
    ("{{a}}}", 1, 4, "expected }}, found }}}"),
    ("{{{a}}", 1, 5, "expected }}}, found }}"),
    ("{{a", 1, 1, "the tag is not closed"),
    ("x\n  {{", 2, 3, "the tag is not closed"),
    ("é\n{{a &}}", 2, 5, "unexpected '&'"),
    ("{{}}", 1, 3, "expected a name, found }}"),
    ("{{#if a}}", 1, 1, "the block if is not closed"),
    ("{{#if a}}\n{{/each}}", 2, 1, "{{/each}} does not close if"),
    ("{{#if a}}{{else}}{{else}}{{/if}}", 1, 18, "expected {{/if}}, found {{else}}"),
    ("{{^a}}{{else if b}}{{/a}}", 1, 7, "expected {{/a}}, found {{else"),
    ("a {{else}} b", 1, 3, "{{else}} outside a block"),
    ("{{/if}}", 1, 1, "{{/ outside a block"),
    ("{{! a", 1, 1, "the comment is not closed"),
    ("{{!-- a }}", 1, 1, "the comment is not closed"),
    ("{{items.0}}", 1, 9, "expected a name; an index is written [0], found 0"),
    ("{{a.this}}", 1, 3, "invalid path: a.this"),
    ("{{a/../b}}", 1, 3, "invalid path: a/.."),
    ("{{> header}}", 1, 1, "partials are not supported"),
    ("{{#> layout}}{{/layout}}", 1, 1, "partials are not supported"),
    ('{{#*inline "x"}}{{/inline}}', 1, 1, "decorators are not supported"),
    ("{{* x}}", 1, 1, "decorators are not supported"),
    ("{{{{raw}}}}{{{{/raw}}}}", 1, 1, "raw blocks are not supported"),
    ("{{shout a}}", 1, 3, "there is no helper shout"),
    ("{{uppercase (shout)}}", 1, 14, "there is no helper shout"),
    ("{{log a}}", 1, 3, "there is no helper log"),
    ("{{#loop a}}{{/loop}}", 1, 4, "there is no block helper loop"),
    ("{{#uppercase a}}{{/uppercase}}", 1, 4, "there is no block helper uppercase"),
    ("{{if a}}", 1, 3, "if is a block helper, written {{#if}}"),
    ("{{uppercase}}", 1, 3, "uppercase takes 1 argument, not 0"),
    ("{{default a}}", 1, 3, "default takes 2 arguments, not 1"),
    ("{{formatDate}}", 1, 3, "formatDate takes 1 to 2 arguments, not 0"),
    ("{{formatDate a b c}}", 1, 3, "formatDate takes 1 to 2 arguments, not 3"),
    ("{{#if}}{{/if}}", 1, 4, "if takes 1 argument, not 0"),
    ("{{#each a b}}{{/each}}", 1, 4, "each takes 1 argument, not 2"),
    ("{{#each a limit=3}}{{/each}}", 1, 4, "each takes no argument limit="),
    ("{{#if a as |p|}}{{p}}{{/if}}", 1, 4, "if binds no block parameters here"),
    ("{{^a as |p|}}{{p}}{{/a}}", 1, 4, "a binds no block parameters here"),
    ("{{#each a as |p|}}{{p b}}{{/each}}", 1, 21, "there is no helper p"),
    ("{{#each a as ||}}{{/each}}", 1, 11, "a block parameter has no name"),
    ("{{#if a b=}}{{/if}}", 1, 11, "b= has no value"),
    ("a\0b", 1, 2, "the template contains a NUL character"),
]


@pytest.mark.parametrize(("source", "line", "column", "message"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_the_error_has_the_position(source, line, column, message):
    with pytest.raises(TemplateSyntaxError) as raised:
        compile_template(source, html=True)

    assert (raised.value.line, raised.value.column, raised.value.message) == (line, column, message)
    assert str(raised.value) == f"line {line}, column {column}: {message}"


def nested(depth):
    return "{{#if a}}" * depth + "x" + "{{/if}}" * depth


def chained(links):
    return "{{#if no}}" + "{{else if no}}" * links + "{{else}}x{{/if}}"


def parenthesised(depth):
    return "{{uppercase " + "(uppercase " * depth + "'x'" + ")" * depth + "}}"


def parts(count):
    return "x{{" + ".".join("a" * count) + "}}"


def parameters(count):
    return "{{#each l as |" + " ".join(f"p{number}" for number in range(count)) + "|}}x{{/each}}"


LIMITS = [
    (nested, limits.MAX_BLOCK_DEPTH, "blocks are nested deeper than 64"),
    (chained, limits.MAX_BLOCK_DEPTH - 1, "blocks are nested deeper than 64"),
    (parenthesised, limits.MAX_EXPRESSION_DEPTH, "expressions are nested deeper than 32"),
    (parts, limits.MAX_PATH_PARTS, "a path has more than 32 parts"),
    (parameters, limits.MAX_BLOCK_PARAMETERS, "a block has more than 32 parameters"),
    (lambda count: "{{!}}" * (count - 1) + "x", limits.MAX_NODES, "the template has more than 5000 nodes"),
    (lambda count: "x" * count, limits.MAX_SOURCE, "the template has more than 262144 characters"),
]


@pytest.mark.parametrize(("template", "limit", "message"), LIMITS, ids=[each[2] for each in LIMITS])
def test_the_limit_itself_is_allowed_and_one_more_is_not(template, limit, message):
    assert "x" in compile_template(template(limit), html=True).render({"a": 1, "l": [1]}).lower()
    with pytest.raises(TemplateSyntaxError, match=message):
        compile_template(template(limit + 1), html=True)
