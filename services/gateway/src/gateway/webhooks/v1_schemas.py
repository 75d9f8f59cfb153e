"""The bodies of ``/v1/webhooks``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from gateway.kit.addresses import parsed_url
from gateway.kit.fields import Short, Time, Timestamp, one_line
from sluice.model.message import Channel
from sluice.model.webhooks import DisabledReason, WebhookStatus, WebhookType

MAX_GRACE = 7 * 24 * 3600  # seconds


def _endpoint_url(text: str) -> str:
    one_line(text)
    url = parsed_url(text)
    if url.userinfo:
        raise ValueError("must contain no user name or password: the signature authenticates the request")
    if url.fragment:
        raise ValueError("must contain no fragment (#…): it would not be sent")
    return text


def _unique(values: list[WebhookType]) -> list[WebhookType]:
    return sorted(set(values), key=list(WebhookType).index)


def _unique_channels(values: list[Channel]) -> list[Channel]:
    return sorted(set(values), key=list(Channel).index)


EndpointUrl = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_endpoint_url)]
Events = Annotated[list[WebhookType], Field(min_length=1, max_length=100), AfterValidator(_unique)]
Channels = Annotated[
    list[Channel],
    Field(max_length=20, description="Only events of these channels; empty for all."),
    AfterValidator(_unique_channels),
]
Tags = Annotated[
    list[Short], Field(max_length=50, description="Only events of messages with one of these tags; empty for all.")
]
Description = Annotated[str, Field(max_length=255), AfterValidator(one_line)]
GraceSeconds = Annotated[
    int,
    Field(ge=0, le=MAX_GRACE, description="Time for which the secret before this one stays valid; 0 ends it at once."),
]


class CreateWebhookRequest(BaseModel):
    """A new endpoint."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "example": {"url": "https://shop.example/hooks/messages", "events": ["delivered", "bounced", "failed"]}
        },
    )

    url: EndpointUrl
    events: Events
    channels: Channels = []
    tags: Tags = []
    description: Description = ""
    enabled: bool = True


class UpdateWebhookRequest(BaseModel):
    """What changes; the rest stays. ``enabled``: true also enables an endpoint that Sluice disabled."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": {"enabled": True}})

    url: EndpointUrl | None = None
    events: Events | None = None
    channels: Channels | None = None
    tags: Tags | None = None
    description: Description | None = None
    enabled: bool | None = None

    @model_validator(mode="after")
    def _has_no_null(self) -> UpdateWebhookRequest:
        for field in self.model_fields_set:
            if getattr(self, field) is None:
                raise ValueError(f"{field} must not be null")
        return self


class RotateSecretRequest(BaseModel):
    """A new signing secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": {"grace_seconds": 86400}})

    grace_seconds: GraceSeconds = 24 * 3600


class SendTestRequest(BaseModel):
    """A test event. ``type``: by default the first type that the endpoint asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": {"type": "delivered"}})

    type: WebhookType | None = None


class ReplayRequest(BaseModel):
    """Which deliveries are sent again: those of events that happened in a time range, by default what failed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"example": {"since": "2026-03-27T10:00:00Z"}}
    )

    since: Time
    until: Time | None = Field(None, description="Exclusive; by default now.")
    statuses: Annotated[list[WebhookStatus], Field(min_length=1, max_length=10)] = [
        WebhookStatus.EXHAUSTED,
        WebhookStatus.SKIPPED,
    ]
    cursor: Annotated[str | None, Field(max_length=100, description="`next_cursor` of the call before.")] = None

    @model_validator(mode="after")
    def _is_a_range(self) -> ReplayRequest:
        until: AwareDatetime | None = self.until
        if until is not None and until <= self.since:
            raise ValueError("until must be after since")
        return self


class WebhookResponse(BaseModel):
    """An endpoint. ``disabled_reason``: why Sluice disabled it, null if it did not; ``failing_since``: the first failed
    request after the newest successful one.
    """

    id: str
    url: str
    events: list[WebhookType]
    channels: list[Channel]
    tags: list[str]
    description: str
    enabled: bool
    disabled_reason: DisabledReason | None
    failing_since: Timestamp | None
    test: bool = Field(description="Gets the events of test messages; otherwise those of live ones.")
    created_at: Timestamp
    updated_at: Timestamp


class CreatedWebhookResponse(WebhookResponse):
    """A new endpoint with its signing secret."""

    secret: str = Field(description="The signing secret, `whsec_…`. It is shown this once.")


class RotatedSecretResponse(BaseModel):
    """A new signing secret. ``previous_valid_until``: until then requests carry the signatures of both."""

    id: str
    secret: str = Field(description="The signing secret, `whsec_…`. It is shown this once.")
    previous_valid_until: Timestamp


class AttemptResponse(BaseModel):
    """One request to the endpoint. ``status``: of its response, null without one; ``error``: null for a success."""

    number: int
    started_at: Timestamp
    duration_ms: int
    status: int | None
    error: str | None
    answer: str = Field(description="The first 4 KiB of the response's body.")


class WebhookDeliveryResponse(BaseModel):
    """One event for one endpoint, with its attempts in order. ``created_at``: when the event happened."""

    id: str
    event_id: str = Field(description="The header `webhook-id` of every attempt.")
    type: WebhookType
    status: WebhookStatus
    test: bool
    attempts: list[AttemptResponse]
    next_attempt_at: Timestamp | None
    created_at: Timestamp
    finished_at: Timestamp | None


class ReplayResponse(BaseModel):
    """How many deliveries are due again. ``next_cursor``: for the next call with the same range; null at the end."""

    replayed: int
    next_cursor: str | None
