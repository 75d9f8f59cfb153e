"""The bodies of ``/v1/projects/{slug}/keys``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from gateway.kit.fields import Short, Timestamp


class CreateKeyRequest(BaseModel):
    """A new API key. ``test``: its messages go to the sandbox."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": {"name": "web server"}})

    name: Short
    test: bool = False


class KeyResponse(BaseModel):
    """An API key. ``prefix``: how the key begins; ``created_by``: a user, null for the command line.

    ``active``: false for one that is refused until the project API activates it again.
    """

    id: str
    name: str
    prefix: str
    test: bool
    active: bool
    created_by: str | None
    created_at: Timestamp


class CreatedKeyResponse(KeyResponse):
    """A new API key with its text."""

    key: str = Field(description="The whole key. It is shown this once.")
