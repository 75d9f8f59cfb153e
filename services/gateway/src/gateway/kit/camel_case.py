"""Base classes of the bodies of the project API, whose fields are in camel case, and its plain ids."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel

from sluice.model import ids


class CamelRequest(BaseModel):
    """Base of request bodies: unknown fields are refused."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class CamelResponse(BaseModel):
    """Base of response bodies, which are made by the names of Python."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)


def _id(value: Any) -> UUID:
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise ValueError("must be an id")
    return ids.decode_id(value.partition("_")[0], value)


Id = Annotated[UUID, BeforeValidator(_id), WithJsonSchema({"type": "string", "format": "uuid"})]
"""An id in a body or query: a plain UUID, or the form of ``/v1`` with its prefix. In responses a plain UUID.

In a path it is a text, which :func:`gateway.kit.public_ids.read_id` reads in both forms.
"""


class ProjectBody(CamelRequest):
    """Base of bodies that name the project, as ``?projectId=`` does; an API key has its own."""

    project_id: Id | None = None
