"""The bodies of ``/projects/{projectId}/api-keys`` of the project API."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from gateway.kit.camel_case import CamelRequest, CamelResponse
from gateway.kit.fields import Short, Timestamp


class CreateKeyRequest(CamelRequest):
    """A new API key."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "web server"}})

    name: Short


class UpdateKeyRequest(CamelRequest):
    """What changes; the rest stays. ``isActive``: a key that is not is refused until it is again."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "web server", "isActive": False}})

    name: Short | None = None
    is_active: bool | None = Field(None, strict=True)


class CreatedKeyResponse(CamelResponse):
    """A new API key with its text."""

    message: str
    id: str
    key: str = Field(description="The whole key. It is shown this once.")


class KeyResponse(CamelResponse):
    """An API key. ``prefix``: how it begins; ``isTest``: its messages go to the sandbox; ``createdBy``: a user, null
    for the command line.
    """

    id: str
    name: str
    prefix: str
    is_active: bool
    is_test: bool
    created_by: str | None
    created_at: Timestamp
