"""Every line of the syntax table that the project API publishes."""

import pytest

from sluice.templates.template import compile_template

VARIABLES = {
    "name": "<Ann>",
    "user": {"email": "ann@example.com"},
    "items": [{"title": "tea"}, {"title": "rum"}],
    "paid": True,
    "due": False,
    "at": "2026-03-27T10:00:00Z",
    "plan": "pro",
}

LINES = [
    ("{{name}}", "&lt;Ann&gt;", "<Ann>"),
    ("{{{name}}}", "<Ann>", "<Ann>"),
    ("{{user.email}}", "ann@example.com", "ann@example.com"),
    ("{{#if paid}}paid{{else}}open{{/if}}", "paid", "paid"),
    ("{{#if due}}due{{else}}settled{{/if}}", "settled", "settled"),
    ("{{#unless due}}settled{{/unless}}", "settled", "settled"),
    ("{{#each items}}{{@index}}{{this.title}} {{/each}}", "0tea 1rum ", "0tea 1rum "),
    ("{{#with user}}{{email}}{{/with}}", "ann@example.com", "ann@example.com"),
    ("{{uppercase plan}}", "PRO", "PRO"),
    ("{{lowercase 'PRO'}}", "pro", "pro"),
    ("{{capitalize plan}}", "Pro", "Pro"),
    ('{{default nickname "friend"}}', "friend", "friend"),
    ('{{formatDate at "YYYY-MM-DD"}}', "2026-03-27", "2026-03-27"),
    ('{{formatDate at "MM/DD/YYYY"}}', "03/27/2026", "03/27/2026"),
    ("{{formatDate at}}", "3/27/2026", "3/27/2026"),
    ('{{#ifEquals plan "pro"}}yes{{else}}no{{/ifEquals}}', "yes", "yes"),
    ('{{#ifNotEquals plan "pro"}}yes{{else}}no{{/ifNotEquals}}', "no", "no"),
]


@pytest.mark.parametrize(("source", "html", "text"), LINES, ids=[line[0] for line in LINES])
def test_the_line_renders_in_an_email_and_in_a_text(source, html, text):
    assert compile_template(source, html=True).render(VARIABLES) == html
    assert compile_template(source, html=False).render(VARIABLES) == text


@pytest.mark.parametrize(("source", "html", "text"), LINES, ids=[line[0] for line in LINES])
def test_handlebars_js_renders_the_line_in_the_same_way(handlebars_js, source, html, text):
    assert handlebars_js.render(source, VARIABLES, html=True) == (html, None)
    assert handlebars_js.render(source, VARIABLES, html=False) == (text, None)
