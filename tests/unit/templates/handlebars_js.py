"""handlebars.js in an embedded JavaScript engine, with the helpers of this project added."""

import contextlib
import hashlib
import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import quickjs

from tests.repository.files import ROOT

PACKAGE = Path(__file__).parent / "handlebars"  # pinned there, with the hash of its content
CACHE = ROOT / ".cache"

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
def _source() -> str | None:
    """handlebars.js as npm installs it from the lock file; None where that is not possible."""
    if shutil.which("npm") is None:
        return None
    lock = (PACKAGE / "package-lock.json").read_bytes()
    installed = CACHE / f"handlebars-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not installed.exists():
        CACHE.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=CACHE))
        shutil.copytree(PACKAGE, draft, dirs_exist_ok=True)
        command = ["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
        if subprocess.run(command, cwd=draft, capture_output=True, timeout=120).returncode:
            return None
        with contextlib.suppress(OSError):  # another test process was faster
            draft.rename(installed)
    return (installed / "node_modules/handlebars/dist/handlebars.min.js").read_text("utf-8")


def require() -> None:
    """Skip the test where handlebars.js cannot be installed."""
    if _source() is None:
        pytest.skip("handlebars.js is not installed: npm is missing or cannot reach its registry")


@cache
def _engine() -> quickjs.Context:
    source = _source()
    assert source is not None
    context = quickjs.Context()
    context.set_memory_limit(256 * 1024 * 1024)
    context.set_time_limit(60)
    context.eval(source)
    context.eval(f"(function () {{{PRELUDE} globalThis.render = render; }})()")
    return context


def render(source, variables, *, html):
    """What handlebars.js makes of a template."""
    answer = json.loads(_engine().get("render")(source, json.dumps(variables), html))
    return Answer(answer.get("text"), answer.get("error"))
