"""What the bodies of templates share in both APIs: field types, and the class of their routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gateway.kit.fields import Free, one_line, storable
from gateway.kit.json_route import JsonRoute
from sluice.model.template import DATA_PREFIX
from sluice.templates.limits import MAX_SOURCE

Source = Annotated[str, Field(min_length=1, max_length=MAX_SOURCE), AfterValidator(storable)]
DataKey = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(one_line)]
Variables = Annotated[dict[str, Any], Free(), Field(description="The values of the variables: any JSON.")]


class TemplateRoute(JsonRoute):
    """Sources are long texts."""

    max_body = 524_288  # bytes: of text with many escapes they are decoded in 30 ms


def data_of(parts: Mapping[str, str]) -> dict[str, str] | None:
    """The data among sources or outputs by part; None if there are none."""
    prefixed = {part: text for part, text in parts.items() if part.startswith(DATA_PREFIX)}
    return {part.removeprefix(DATA_PREFIX): text for part, text in prefixed.items()} or None
