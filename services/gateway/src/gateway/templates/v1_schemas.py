"""The bodies of ``/v1/templates``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from gateway.kit.fields import Short, Timestamp
from gateway.templates.bodies import DataKey, Source, Variables, data_of
from sluice.model.template import DATA_PREFIX, TemplateKind

_SUBJECT = "Subject of a mail, or title of a push notification."
_HTML = "HTML part of a mail. What a tag prints is escaped."
_TEXT = "Text part of a mail, or the text of any other message."
_DATA = "Data of a push notification. Each value is a template; keys are not."

_EXAMPLE: JsonDict = {
    "name": "order shipped",
    "kind": "email",
    "subject": "Order {{order.number}} is on its way",
    "html": "<p>Hello {{default name 'there'}},</p><p>your order is on its way.</p>",
}


class _Sources(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: Source | None = Field(None, description=_SUBJECT)
    html: Source | None = Field(None, description=_HTML)
    text: Source | None = Field(None, description=_TEXT)
    data: dict[DataKey, Source] | None = Field(None, description=_DATA)

    @property
    def sources(self) -> dict[str, str]:
        """The sources by part."""
        parts = {"subject": self.subject, "html": self.html, "text": self.text}
        named = {part: source for part, source in parts.items() if source is not None}
        return named | {DATA_PREFIX + key: source for key, source in (self.data or {}).items()}


class CreateTemplateRequest(_Sources):
    """A new template. Which parts it can have depends on its kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": _EXAMPLE})

    name: Short
    kind: TemplateKind


class UpdateTemplateRequest(_Sources):
    """Changes of a template. A part that is null is removed; `data` replaces all data."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": {"subject": "Hello {{name}}"}})

    name: Short | None = None
    version: int | None = Field(
        None, ge=1, le=2**31 - 1, description="The version that was edited: another current one is a conflict."
    )

    @property
    def changes(self) -> dict[str, str | None]:
        """The parts that the request names; None: removed."""
        named: dict[str, str | None] = {
            part: getattr(self, part) for part in ("subject", "html", "text") if part in self.model_fields_set
        }
        return named | {DATA_PREFIX + key: source for key, source in (self.data or {}).items()}


class PreviewRequest(BaseModel):
    """The variables of a preview, and the version: the current one by default."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"example": {"variables": {"name": "Ada"}}}
    )

    variables: Variables = {}
    version: int | None = Field(None, ge=1, le=2**31 - 1)


class PreviewSourcesRequest(_Sources):
    """Sources that are not saved, and their variables."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"kind": "text", "text": "Hello {{name}}", "variables": {"name": "Ada"}}},
    )

    kind: TemplateKind
    variables: Variables = {}


class TemplateSummaryResponse(BaseModel):
    """A template without its sources. ``variables``: the paths that it reads, such as ``items[].price``."""

    id: str
    name: str
    kind: TemplateKind
    version: int
    variables: list[str]
    created_at: Timestamp
    updated_at: Timestamp


class TemplateResponse(TemplateSummaryResponse):
    """A template in one version."""

    subject: str | None
    html: str | None
    text: str | None
    data: dict[str, str] | None


class TemplateVersionResponse(BaseModel):
    """One entry in a template's history."""

    version: int
    variables: list[str]
    created_at: Timestamp


class PreviewResponse(BaseModel):
    """What a template yields."""

    subject: str | None
    html: str | None
    text: str | None
    data: dict[str, str] | None


class PreviewSourcesResponse(PreviewResponse):
    """What sources yield, and the variables that they read."""

    variables: list[str]


def parts_of(parts: Mapping[str, str]) -> dict[str, Any]:
    """Sources or outputs by part as fields of a response."""
    return {name: parts.get(name) for name in ("subject", "html", "text")} | {"data": data_of(parts)}
