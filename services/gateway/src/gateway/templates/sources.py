"""The sources of a template: what each kind has, and their compilation with errors that name the part."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import ValidationFailed
from sluice.model.template import DATA_PREFIX, TemplateKind
from sluice.templates.limits import TemplateSyntaxError
from sluice.templates.renderer import Renderer

MAX_NAME = 255  # characters of a template's name
MAX_DATA = 100  # entries in the data of a push template

_PARTS: Mapping[TemplateKind, frozenset[str]] = {
    TemplateKind.EMAIL: frozenset({"subject", "html", "text"}),
    TemplateKind.TEXT: frozenset({"text"}),
    TemplateKind.PUSH: frozenset({"subject", "text"}),
}
_CONTENT: Mapping[TemplateKind, tuple[str, ...]] = {
    TemplateKind.EMAIL: ("html", "text"),
    TemplateKind.TEXT: ("text",),
    TemplateKind.PUSH: ("subject", "text"),
}


def check_sources(kind: TemplateKind, sources: Mapping[str, str]) -> None:
    """Return if a template of this kind can have these sources.

    Raises:
        ValidationFailed: a part is not of this kind, there are too many, or there is nothing to send.
    """
    data = [part for part in sources if part.startswith(DATA_PREFIX)]
    if data and kind is not TemplateKind.PUSH:
        raise ValidationFailed(f"data: a template of kind {kind} has none", field="data")
    if len(data) > MAX_DATA:
        raise ValidationFailed(f"data: has more than {MAX_DATA} entries", field="data")
    for part in sources:
        if part not in _PARTS[kind] and part not in data:
            raise ValidationFailed(f"{part}: a template of kind {kind} has none", field=part)
    if not data and not any(part in sources for part in _CONTENT[kind]):
        raise ValidationFailed("text: is required, because the template has no other content", field="text")


async def compile_sources(renderer: Renderer, sources: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that the sources read, each once.

    Raises:
        ValidationFailed: a source is not a template; with the part, the line and the column.
    """
    variables: dict[str, None] = {}
    for part, source in sources.items():
        try:
            template = await renderer.compile(source, is_html(part))
        except TemplateSyntaxError as error:
            raise ValidationFailed(f"{part}: {error}", field=part, position=(error.line, error.column)) from None
        variables |= dict.fromkeys(template.variables)
    return tuple(variables)


def is_html(part: str) -> bool:
    """Whether what is printed into the part is escaped."""
    return part == "html"
