"""The variables that a template reads."""

import pytest

from sluice.templates.template import compile_template

CASES = [
    ("no tags {{! a }}", ()),
    ("{{b}}{{a}}{{b}}", ("b", "a")),
    ("{{user.name}}{{user/email}}{{{raw}}}{{&raw}}", ("user.name", "user.email", "raw")),
    ("{{#each items}}{{price}}{{../currency}}{{@index}}{{/each}}", ("items", "items[].price", "currency")),
    ("{{#each items}}{{this}}{{.}}{{/each}}", ("items", "items[]")),
    ("{{#each items as |item i|}}{{i}}{{item.price}}{{item}}{{/each}}", ("items", "items[].price", "items[]")),
    ("{{#each a}}{{#each b}}{{c}}{{../d}}{{../../e}}{{/each}}{{/each}}", ("a", "a[].b", "a[].b[].c", "a[].d", "e")),
    ("{{#with user}}{{name}}{{#if ../x}}{{y}}{{/if}}{{/with}}", ("user", "user.name", "x", "user.y")),
    ("{{#with user as |u|}}{{u.name}}{{else}}{{u}}{{/with}}", ("user", "user.name", "u")),
    ("{{#user}}{{name}}{{/user}}{{^gone}}{{name}}{{/gone}}", ("user", "user.name", "gone", "name")),
    ("{{#if a}}{{b}}{{else if c}}{{d}}{{else}}{{e}}{{/if}}", ("a", "b", "c", "d", "e")),
    ("{{#if a includeZero=z}}{{/if}}{{#ifEquals p 'x'}}{{/ifEquals}}", ("a", "z", "p")),
    ("{{uppercase (default name 'x')}}{{lookup table key}}", ("name", "table", "key")),
    ("{{this.uppercase}}{{./if}}{{[odd name]}}", ("uppercase", "if", "odd name")),
    ("{{#each a as |uppercase|}}{{uppercase.x}}{{/each}}", ("a", "a[].x")),
    ("{{@root.name}}{{@first}}{{#each a}}{{@root.b}}{{/each}}", ("name", "a", "b")),
    ("{{#each (lookup a b)}}{{c}}{{../d}}{{/each}}", ("a", "b", "d")),
    ("{{#with this}}{{a}}{{/with}}{{this}}{{../x}}", ("a",)),
]


@pytest.mark.parametrize(("source", "expected"), CASES, ids=[case[0] for case in CASES])
def test_every_variable_is_named_once_in_order(source, expected):
    assert compile_template(source, html=True).variables == expected
