"""handlebars.js in an embedded JavaScript engine, with the helpers of this project added."""

import hashlib
import json
from functools import cache
from typing import NamedTuple

import quickjs

from tests.repository.files import ROOT

SOURCE = ROOT / "tests/assets/handlebars/handlebars.min.js"
SHA256 = "e3be13921b1a0a6d7d7c72e4f561cc638e608c2476fd9b1919b72707e6933b62"

PRELUDE = """'use strict';
const text = value => value == null ? '' : String(value);
const empty = value => Handlebars.Utils.isEmpty(value);
const scalar = value => value == null || typeof value !== 'object';
const same = (left, right) => left === right || (scalar(left) && scalar(right) && left == right);
const formats = {
  YYYY: date => String(date.getUTCFullYear()).padStart(4, '0'),
  MM: date => String(date.getUTCMonth() + 1).padStart(2, '0'),
  DD: date => String(date.getUTCDate()).padStart(2, '0'),
};
Handlebars.registerHelper({
  uppercase: value => text(value).toUpperCase(),
  lowercase: value => text(value).toLowerCase(),
  capitalize: value => text(value).slice(0, 1).toUpperCase() + text(value).slice(1),
  default: (value, fallback) => empty(value) ? fallback : value,
  formatDate: (value, pattern) => {
    const date = new Date(value);
    return isNaN(date) ? value : text(pattern).replace(/YYYY|MM|DD/g, part => formats[part](date));
  },
  ifEquals: function (left, right, options) { return same(left, right) ? options.fn(this) : options.inverse(this); },
  ifNotEquals: function (left, right, options) { return same(left, right) ? options.inverse(this) : options.fn(this); },
});
const escapeHtml = Handlebars.Utils.escapeExpression;
function render(source, variables, html) {
  // The option noEscape would add up numbers that stand side by side.
  Handlebars.Utils.escapeExpression = html ? escapeHtml : text;
  try {
    return JSON.stringify({ text: Handlebars.compile(source)(JSON.parse(variables)) });
  } catch (error) {
    return JSON.stringify({ error: String(error) });
  }
}
"""


class Answer(NamedTuple):
    """Either ``text`` or ``error`` is None."""

    text: str | None
    error: str | None


@cache
def _engine() -> quickjs.Context:
    source = SOURCE.read_bytes()
    assert hashlib.sha256(source).hexdigest() == SHA256
    context = quickjs.Context()
    context.set_memory_limit(256 * 1024 * 1024)
    context.set_time_limit(60)
    context.eval(source.decode())
    context.eval(f"(function () {{{PRELUDE} globalThis.render = render; }})()")
    return context


def render(source, variables, *, html):
    """What handlebars.js makes of a template."""
    answer = json.loads(_engine().get("render")(source, json.dumps(variables), html))
    return Answer(answer.get("text"), answer.get("error"))
