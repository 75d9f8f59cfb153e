"""Responses that are written piece by piece, in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_REF = "#/components/schemas/"


def content_of(model: type[BaseModel], media_type: str) -> dict[str, Any]:
    """The ``content`` of a response whose pieces are ``model``; the enumerations that it names are components already.

    Beside a response with a ``model`` the framework would document the errors of the route with its media type.
    """
    schema = model.model_json_schema(ref_template=_REF + "{model}")
    objects = {name: one for name, one in schema.pop("$defs", {}).items() if "enum" not in one}
    return {media_type: {"schema": _with_objects(schema, objects)}}


def _with_objects(schema: Any, objects: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_with_objects(one, objects) for one in schema]
    if not isinstance(schema, dict):
        return schema
    named = str(schema.get("$ref", "")).removeprefix(_REF)
    return objects[named] if named in objects else {name: _with_objects(one, objects) for name, one in schema.items()}
