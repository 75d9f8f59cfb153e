"""The bodies of the project API's sending routes."""

from __future__ import annotations

from typing import Annotated, Any, Self

import orjson
from pydantic import AfterValidator, ConfigDict, Field, model_validator

from gateway.kit.camel_case import CamelResponse, ProjectBody
from gateway.kit.fields import DeviceToken, Free, Line, Short, visible
from gateway.messages.v1_schemas import MAX_VARIABLES

MAX_RECIPIENTS = 1000
MAX_RETRIES = 1000
_MAX_ADDRESS = 4096  # characters: of a device token, the longest recipient

_TEMPLATE = "template-uuid"
_ENTRY = "delivery-log-uuid"


def _example(body: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": body})


def _bounded(variables: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(variables)) > MAX_VARIABLES:
        raise ValueError(f"have more than {MAX_VARIABLES} bytes")
    return variables


Variables = Annotated[dict[str, Any], Free(), AfterValidator(_bounded)]
_To = Annotated[str, Field(min_length=1, max_length=_MAX_ADDRESS)]
_Recipients = Annotated[list[_To], Field(min_length=1, max_length=MAX_RECIPIENTS)]


class _SendBody(ProjectBody):
    template_id: Short
    variables: Variables = Field(default_factory=dict, json_schema_extra={"default": {}})
    preferred_provider: Short | None = Field(
        None, description="The provider to try first: its name, such as `twilio`, or its id."
    )


class SendEmailRequest(_SendBody):
    """An e-mail from a template. ``subject``: in place of the template's; required where it has none."""

    model_config = _example(
        {
            "templateId": _TEMPLATE,
            "to": "user@example.com",
            "subject": "Welcome to Our Platform",
            "variables": {"firstName": "John", "companyName": "Nobu"},
        }
    )

    to: _To
    subject: Line | None = None


class SendBulkEmailRequest(_SendBody):
    """The same e-mail to each recipient, as a message of its own."""

    model_config = _example(
        {
            "templateId": _TEMPLATE,
            "subject": "Monthly Newsletter",
            "recipients": ["user1@example.com", "user2@example.com"],
            "variables": {"companyName": "Nobu", "monthYear": "January 2024"},
        }
    )

    recipients: _Recipients
    subject: Line | None = None


class SendMessageRequest(_SendBody):
    """A text. The preferred provider decides the channel, without one it is SMS; ``to`` is a number in E.164 format, or
    a chat id where the provider has those.
    """

    model_config = _example({"templateId": _TEMPLATE, "to": "+14155551234", "variables": {"code": "123456"}})

    to: _To


class SendBulkMessageRequest(_SendBody):
    """The same text to each recipient."""

    model_config = _example(
        {"templateId": _TEMPLATE, "recipients": ["+14155551234", "+14155551235"], "variables": {"code": "123456"}}
    )

    recipients: _Recipients


class SendPushRequest(_SendBody):
    """A notification to every device of a user, to one device, or to a topic: exactly one of the three."""

    model_config = _example({"templateId": _TEMPLATE, "userId": "user-123", "variables": {"name": "John"}})

    user_id: Short | None = None
    device_token: DeviceToken | None = None
    topic: Annotated[Short, AfterValidator(visible)] | None = None

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        if sum(one is not None for one in (self.user_id, self.device_token, self.topic)) != 1:
            raise ValueError("exactly one of userId, deviceToken and topic is required")
        return self


class RetryRequest(ProjectBody):
    """An entry of the delivery log whose message was not delivered."""

    model_config = _example({"deliveryLogId": _ENTRY})

    delivery_log_id: Short


class RetryMultipleRequest(ProjectBody):
    """Entries of the delivery log."""

    model_config = _example({"deliveryLogIds": [_ENTRY]})

    delivery_log_ids: Annotated[list[Short], Field(min_length=1, max_length=MAX_RETRIES)]


class DeliveryAnswer(CamelResponse):
    """What became of the message to one recipient. ``error``: why it was not sent; ``queued``: it is not known yet."""

    recipient: str
    success: bool
    message_id: str | None = None
    provider: str | None = None
    delivery_log_id: str | None = None
    error: str | None = None
    queued: bool | None = None


class SendAnswer(CamelResponse):
    """The message was handed to a provider. ``results``: of each device, where there may be several."""

    message: str
    message_id: str
    provider: str | None = None
    delivery_log_id: str | None = None
    results: list[DeliveryAnswer] | None = None


class BulkAnswer(CamelResponse):
    """What became of each recipient, in their order. ``success``: no recipient failed."""

    message: str
    success: bool
    results: list[DeliveryAnswer]


class RetryAnswer(CamelResponse):
    """A new message with the same content is queued. ``message_id``: its id."""

    message: str
    message_id: str


class RetryResult(CamelResponse):
    """What became of one entry."""

    delivery_log_id: str
    success: bool
    message_id: str | None = None
    error: str | None = None


class RetryMultipleAnswer(CamelResponse):
    """What became of each entry, in their order."""

    message: str
    results: list[RetryResult]


class QueueStatisticsAnswer(CamelResponse):
    """Deliveries that wait, are being sent, have failed and are completed: see the description of the route."""

    pending: int
    processing: int
    failed: int
    completed: int
