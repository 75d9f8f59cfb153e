"""Compiled templates, and a cache of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice.templates.blocks import BLOCK_HELPERS
from sluice.templates.compiler import compile_program
from sluice.templates.execution import Execute, Loop, Run, Scope
from sluice.templates.helpers import HELPERS
from sluice.templates.limits import DEFAULT_LIMITS, Limits, TemplateError
from sluice.templates.parser import parse
from sluice.templates.values import Value
from sluice.templates.variables import variables_of
from sluice.templates.whitespace import strip_whitespace

_NODE_BYTES = 1024  # memory of a compiled node, rounded up


@dataclass(frozen=True, slots=True)
class Template:
    """A template ready to render; it holds no state of any rendering."""

    variables: tuple[str, ...]  # `user.name`, `items[].price`: the values that it reads
    size: int  # bytes of memory, an estimate
    _execute: Execute = field(repr=False)

    def render(self, variables: dict[str, Value], limits: Limits = DEFAULT_LIMITS) -> str:
        """The output for ``variables``, which are JSON values; a missing one prints nothing.

        Raises:
            TemplateWorkError: more work units than ``limits`` has.
            TemplateLimitError: more output than ``limits`` has.
            TemplateDataError: a printed value is not a JSON value.
        """
        return self._render(Run(variables, limits))

    def _render(self, run: Run) -> str:
        self._execute(Scope(run.root, None, Loop(None)), run)
        return "".join(run.parts)


def render_all(
    templates: Iterable[Template], variables: dict[str, Value], limits: Limits = DEFAULT_LIMITS
) -> list[str]:
    """The outputs of several templates, which share the limits.

    Raises:
        TemplateError: as :meth:`Template.render`; its ``part`` is the position of the template at which it ended.
    """
    outputs = []
    for position, template in enumerate(templates):
        run = Run(variables, limits)
        try:
            outputs.append(template._render(run))
        except TemplateError as error:
            error.part = position
            raise
        limits = run.left
    return outputs


def compile_template(source: str, html: bool) -> Template:
    """Compile a template; ``html`` escapes what ``{{…}}`` prints, and is for the HTML part of an e-mail only.

    Raises:
        TemplateSyntaxError: with the position of the fault. A template that compiles has no fault left but its cost.
    """
    parsed = parse(source)
    strip_whitespace(parsed.program)
    execute = compile_program(parsed.program, source, html)
    size = len(source.encode("utf-8", "surrogatepass")) + parsed.nodes * _NODE_BYTES
    return Template(variables_of(parsed.program, (*HELPERS, *BLOCK_HELPERS)), size, execute)


class TemplateCache:
    """The templates used last, by the hash of their source. Not safe for several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._templates: OrderedDict[tuple[bytes, bool], Template] = OrderedDict()

    def get(self, source: str, html: bool) -> Template | None:
        """The compiled template, if it is cached."""
        template = self._templates.get(key := _key(source, html))
        if template is not None:
            self._templates.move_to_end(key)
        return template

    def put(self, source: str, html: bool, template: Template) -> None:
        """Add a template; those unused for longest make room."""
        key = _key(source, html)
        if key in self._templates:
            return
        self._templates[key] = template
        self._bytes += template.size
        while self._bytes > self._max_bytes:
            _, dropped = self._templates.popitem(last=False)
            self._bytes -= dropped.size


def _key(source: str, html: bool) -> tuple[bytes, bool]:
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest(), html
