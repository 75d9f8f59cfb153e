"""The bodies of ``/v1/projects``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.kit.fields import NamedAddress, Short, Timestamp
from gateway.kit.v1_roles import V1Role
from sluice.model.routing_policy import RoutingPolicy
from sluice.model.slug import SLUG

Slug = Annotated[str, Field(pattern=SLUG, description="Lower-case letters, digits and hyphens; unique.")]


class CreateProjectRequest(BaseModel):
    """A new project. ``slug``: by default the words of the name."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"example": {"name": "Web shop", "slug": "web-shop"}}
    )

    name: Short
    slug: Slug | None = None


class Routing(BaseModel):
    """How providers are selected. ``policy``: `adaptive` by the recent health of each provider and destination;
    `seed` by the errors among the last 100 attempts; `static` by the priorities alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: RoutingPolicy = RoutingPolicy.ADAPTIVE


class UpdateProjectRequest(BaseModel):
    """What changes; the rest stays. ``default_sender``: null for none. ``routing``: null for the default.

    ``verified_senders_only``: whether e-mail from a domain that is not `verified` is refused.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"default_sender": "Web shop <hello@shop.example>"}},
    )

    name: Short | None = None
    slug: Slug | None = None
    default_sender: NamedAddress | None = None
    verified_senders_only: bool | None = None
    routing: Routing | None = None

    @model_validator(mode="after")
    def _has_no_null(self) -> UpdateProjectRequest:
        for field in ("name", "slug", "verified_senders_only"):
            if field in self.model_fields_set and getattr(self, field) is None:
                raise ValueError(f"{field} must not be null")
        return self


class ProjectResponse(BaseModel):
    """A project. ``role``: that of the person who asks; null for an API key.

    ``verified_senders_only``: whether e-mail from a domain that is not `verified` is refused.
    """

    id: str
    slug: str
    name: str
    default_sender: str | None
    verified_senders_only: bool
    routing: Routing
    role: V1Role | None
    created_at: Timestamp


class DeletedResponse(BaseModel):
    """What was deleted."""

    id: str
    deleted: bool = True
