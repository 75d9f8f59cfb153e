"""Webhooks of the customer: the types of events that an endpoint can ask for, and the body of a request to it."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.state import EventType, State


class WebhookType(StrEnum):
    """The type of an event as webhooks name it: without a prefix for e-mail, with the channel's for the others."""

    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SOFT_BOUNCE = "soft_bounce"
    COMPLAINED = "complained"
    OPENED = "opened"
    CLICKED = "clicked"
    FAILED = "failed"
    SMS_SENT = "sms_sent"
    SMS_DELIVERED = "sms_delivered"
    SMS_FAILED = "sms_failed"
    WA_SENT = "wa_sent"
    WA_DELIVERED = "wa_delivered"
    WA_READ = "wa_read"
    WA_FAILED = "wa_failed"
    WA_REPLIED = "wa_replied"
    TG_SENT = "tg_sent"
    TG_DELIVERED = "tg_delivered"
    TG_READ = "tg_read"
    TG_FAILED = "tg_failed"
    SIG_SENT = "sig_sent"
    SIG_DELIVERED = "sig_delivered"
    SIG_READ = "sig_read"
    SIG_FAILED = "sig_failed"
    PUSH_SENT = "push_sent"
    PUSH_DELIVERED = "push_delivered"
    PUSH_FAILED = "push_failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNCONFIRMED = "unconfirmed"
    PROVIDER_HEALTH_CHANGED = "provider.health_changed"


class WebhookStatus(StrEnum):
    """The status of one event for one endpoint."""

    PENDING = "PENDING"  # an attempt is due or in flight
    DELIVERED = "DELIVERED"  # the endpoint answered with 2xx
    EXHAUSTED = "EXHAUSTED"  # the last attempt of the schedule failed, or the endpoint answered 410
    SKIPPED = "SKIPPED"  # the endpoint was disabled


class DisabledReason(StrEnum):
    """Why Sluice disabled an endpoint."""

    GONE = "gone"  # it answered 410
    FAILING = "failing"  # a delivery was exhausted, and no other succeeded meanwhile


_PREFIXES = {
    Channel.SMS: "sms",
    Channel.WHATSAPP: "wa",
    Channel.TELEGRAM: "tg",
    Channel.SIGNAL: "sig",
    Channel.PUSH: "push",
}
_OF_EVERY_CHANNEL = frozenset(
    {
        EventType.CANCELLED,
        EventType.EXPIRED,
        EventType.UNCONFIRMED,
        EventType.COMPLAINED,
        EventType.OPENED,
        EventType.CLICKED,
    }
)
# Without e-mail's distinction: the status in the body keeps it.
_FAILURES = frozenset({EventType.FAILED, EventType.BOUNCED, EventType.SOFT_BOUNCE})
_BY_VALUE = {type_.value: type_ for type_ in WebhookType}


@cache
def webhook_type(channel: Channel, event_type: EventType) -> WebhookType | None:
    """The type under which an event is sent to endpoints; None for an event that no endpoint gets.

    Every terminal state of every channel has one.
    """
    if event_type in _OF_EVERY_CHANNEL:
        return WebhookType(event_type.value)
    if channel is Channel.EMAIL:
        return WebhookType.OPENED if event_type is EventType.READ else _BY_VALUE.get(event_type.value)
    suffix = "failed" if event_type in _FAILURES else event_type.value
    return _BY_VALUE.get(f"{_PREFIXES[channel]}_{suffix}")


def event_id(delivery_id: Any, sequence: int) -> str:
    """The public id of an event: the same in the API and in every attempt of a webhook."""
    return f"{ids.encode_id('evt', delivery_id)}_{sequence}"


class WebhookData(BaseModel):
    """What happened, and to which message."""

    model_config = ConfigDict(frozen=True, ser_json_temporal="iso8601")

    message_id: str
    project_id: str
    channel: Channel
    recipient: str = Field(description="Of e-mail the first recipient of the envelope.")
    status: State | None = Field(description="The status that the event asserts; null for one that changes none.")
    provider: str | None = Field(description="Id of the provider.")
    attempt: int | None
    reason: str | None = Field(description="Normalised cause of a failure.")
    detail: str = Field(description="The provider's words.")
    tags: list[str]
    metadata: dict[str, Any] | None
    idempotency_key: str | None


class ProviderHealthData(BaseModel):
    """A provider has stopped or begun to work: `provider.health_changed`. It belongs to no message."""

    model_config = ConfigDict(frozen=True)

    project_id: str
    channel: Channel
    provider: str | None = Field(description="Id of the provider; null in a test.")
    status: Literal["unhealthy", "suspended", "healthy", "disabled", "removed"] = Field(
        description="`healthy`: it has its full share of the traffic again."
    )
    reason: str
    incident: str | None = Field(description="Id of the incident that it belongs to; null in a test.")
    incident_status: Literal["open", "resolved"] = Field(description="With this change.")


class WebhookBody(BaseModel):
    """The body of a request to an endpoint.

    An event is sent at least once and in any order: `id` is the same in every attempt.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="The event's id, also in the header `webhook-id`.")
    type: WebhookType
    timestamp: AwareDatetime = Field(description="When it happened.")
    test: bool = Field(description="An event that `POST /v1/webhooks/{id}/test` made up.")
    data: WebhookData | ProviderHealthData
