"""The bodies of the project API's templates: three nouns over one model, whose parts have other names there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from gateway.kit.camel_case import CamelResponse, Id, ProjectBody
from gateway.kit.fields import Short, Timestamp
from gateway.templates.bodies import DataKey, Source, Variables, data_of
from sluice.model.template import DATA_PREFIX, TemplateKind

FIELDS: Mapping[TemplateKind, Mapping[str, str]] = {
    TemplateKind.EMAIL: {"subject": "subject", "html": "html", "text": "text"},
    TemplateKind.TEXT: {"body": "text"},
    TemplateKind.PUSH: {"title": "subject", "body": "text"},
}
"""The fields of a body, and the parts of a template that they are."""

_PROJECT: JsonDict = {"projectId": "019ac9d2-5f6e-7a41-8b0c-2d3e4f506172"}
_EMAIL: JsonDict = {"subject": "Welcome, {{firstName}}!", "html": "<h1>Welcome {{firstName}}!</h1>"}
_MESSAGE: JsonDict = {"body": "Hi {{firstName}}, your verification code is {{code}}."}
_PUSH: JsonDict = {
    "title": "Your order is on the way, {{name}}!",
    "body": "Order #{{orderId}} will arrive by {{deliveryDate}}.",
    "data": {"screen": "order-tracking"},
}


def _example(*parts: JsonDict) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": {name: value for part in parts for name, value in part.items()}})


class UpdateTemplateRequest(ProjectBody):
    """Changes of a template of any kind. A part that is null is removed."""

    kind: ClassVar[TemplateKind]

    name: Short | None = None

    @property
    def changes(self) -> dict[str, str | None]:
        """The parts that the request names; None: removed."""
        return {
            part: getattr(self, field) for field, part in FIELDS[self.kind].items() if field in self.model_fields_set
        }

    @property
    def sources(self) -> dict[str, str]:
        """The parts that the request gives a source."""
        return {part: source for part, source in self.changes.items() if source is not None}


class CreateTemplateRequest(UpdateTemplateRequest):
    """A new template of any kind."""

    name: Short


class UpdateEmailTemplateRequest(UpdateTemplateRequest):
    """Changes of an e-mail template. A part that is null is removed."""

    model_config = _example(_EMAIL)

    kind = TemplateKind.EMAIL

    subject: Source | None = None
    html: Source | None = Field(None, description="What a tag prints is escaped.")
    text: Source | None = None


class CreateEmailTemplateRequest(CreateTemplateRequest, UpdateEmailTemplateRequest):
    """A new e-mail template, with `html` or `text`."""

    model_config = _example({"name": "welcome-email"}, _PROJECT, _EMAIL)


class UpdateMessageTemplateRequest(UpdateTemplateRequest):
    """Changes of a message template."""

    model_config = _example(_MESSAGE)

    kind = TemplateKind.TEXT

    body: Source | None = None


class CreateMessageTemplateRequest(CreateTemplateRequest, UpdateMessageTemplateRequest):
    """A new template of an SMS or of a message of WhatsApp, Telegram or Signal."""

    model_config = _example({"name": "welcome-message"}, _PROJECT, _MESSAGE)

    body: Source


class UpdatePushTemplateRequest(UpdateTemplateRequest):
    """Changes of a push template. A part that is null is removed; `data` replaces all data."""

    model_config = _example(_PUSH)

    kind = TemplateKind.PUSH

    title: Source | None = None
    body: Source | None = None
    data: dict[DataKey, Source] | None = Field(None, description="Each value is a template; keys are not.")

    @property
    def changes(self) -> dict[str, str | None]:
        """The parts that the request names; None: removed."""
        return super().changes | {DATA_PREFIX + key: source for key, source in (self.data or {}).items()}


class CreatePushTemplateRequest(CreateTemplateRequest, UpdatePushTemplateRequest):
    """A new push template."""

    model_config = _example({"name": "Order Shipped"}, _PROJECT, _PUSH)

    title: Source
    body: Source


class PreviewRequest(ProjectBody):
    """A template and its variables."""

    model_config = _example(
        _PROJECT, {"templateId": "019ac9d2-6a7b-7c52-9d1e-3f4051627384", "variables": {"firstName": "John"}}
    )

    template_id: Id
    variables: Variables = Field(default_factory=dict)


class EmailTemplateCreatedResponse(CamelResponse):
    """A new e-mail template without its sources."""

    id: UUID
    name: str
    project_id: UUID
    created_at: Timestamp


class MessageTemplateCreatedResponse(EmailTemplateCreatedResponse):
    """A new message template."""

    body: str


class PushTemplateCreatedResponse(EmailTemplateCreatedResponse):
    """A new push template."""

    title: str
    body: str
    data: dict[str, str] | None


class TemplateSummaryResponse(EmailTemplateCreatedResponse):
    """A template as a list shows it. ``variables``: the paths that it reads, such as ``items[].price``."""

    variables: list[str]
    updated_at: Timestamp


class EmailTemplateResponse(TemplateSummaryResponse):
    """An e-mail template."""

    subject: str | None
    html: str | None
    text: str | None


class MessageTemplateResponse(TemplateSummaryResponse):
    """A template of a message to a phone or a chat."""

    body: str


class PushTemplateResponse(TemplateSummaryResponse):
    """A push template."""

    title: str | None
    body: str | None
    data: dict[str, str] | None


class TemplateDeletedResponse(CamelResponse):
    """The template is deleted."""

    message: str = "Template deleted successfully"


class TemplateVariablesResponse(CamelResponse):
    """The paths that a template reads, such as ``items[].price``."""

    variables: list[str]


class EmailPreviewResponse(CamelResponse):
    """The HTML of the mail; of a template without HTML its text."""

    preview: str


class MessagePreviewResponse(CamelResponse):
    """The text of the message."""

    rendered_message: str


class PushPreviewResponse(CamelResponse):
    """The notification."""

    title: str | None
    body: str | None
    data: dict[str, str] | None


def fields_of(kind: TemplateKind, parts: Mapping[str, str]) -> dict[str, Any]:
    """Sources or outputs by part as fields of a response."""
    found: dict[str, Any] = {field: parts.get(part) for field, part in FIELDS[kind].items()}
    if kind is TemplateKind.PUSH:
        found["data"] = data_of(parts)
    return found
