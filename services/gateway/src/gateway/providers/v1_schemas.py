"""The bodies of ``/v1/providers``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.kit.fields import Short, Timestamp
from gateway.kit.provider_reference import ProviderReference
from sluice.model.message import Channel

MAX_REORDERED = 1000  # providers of one channel

_Credentials = Annotated[
    dict[str, Any], Field(description="The fields that `GET /v1/packages/{name}` describes. They are never returned.")
]

Priority = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
"""The lower number is tried first."""


def _config(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": example})


class ProviderSettings(BaseModel):
    """Limits, share and price of one provider.

    ``concurrency``: calls at once in each worker; null for the default of the worker. ``calls_per_second``: the most
    calls that start in any second, by all workers together; null for any number. ``segments_per_second``: the same in
    segments of SMS, instead of calls. ``weight``: the share among providers of equal priority; null counts as 1.
    ``price``: of a message, of SMS of a segment, in the currency that the project uses for all prices; among providers
    of equal priority without weights the cheaper one is tried first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: Annotated[int, Field(ge=1, le=1000, strict=True)] | None = None
    calls_per_second: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    segments_per_second: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    weight: Annotated[float, Field(gt=0, le=1000, strict=True, allow_inf_nan=False)] | None = None
    price: Annotated[float, Field(ge=0, le=1_000_000, strict=True, allow_inf_nan=False)] | None = None


class TestMessageRequest(BaseModel):
    """A test message. The fields are those of `POST /v1/messages/channel` for the channel of the provider."""

    __test__ = False  # not a class of tests
    model_config = _config({"to": "ada@example.com", "from": "shop@example.com"})

    to: Short
    from_: Short | None = Field(None, alias="from")
    subject: Short | None = Field(None, description="E-mail and push; by default `Test message`.")
    text: Short | None = Field(None, description="By default a sentence that says that this is a test.")
    channel_options: dict[str, Any] | None = Field(None, description="WhatsApp: the template to send.")


class CreateProviderRequest(BaseModel):
    """A new provider. ``priority``: the lower number is tried first, by default after all others of the channel."""

    model_config = _config(
        {
            "packageName": "provider-smtp",
            "name": "Our mail server",
            "credentials": {"host": "smtp.example.com", "port": 587, "auth": {"user": "shop", "pass": "a secret"}},
        }
    )

    package_name: Short = Field(alias="packageName")
    name: Short
    credentials: _Credentials = Field(default_factory=dict)
    channel: Channel | None = Field(None, description="Needed for a package of several channels only.")
    priority: Priority | None = None
    enabled: bool = True
    settings: ProviderSettings = ProviderSettings()
    verify: TestMessageRequest | None = Field(
        None, description="Sends this message with the credentials first; they are stored if it is accepted."
    )


class UpdateProviderRequest(BaseModel):
    """What changes; the rest stays.

    ``credentials`` and ``settings`` replace all of the earlier ones. ``version``: the change is refused with 409 if the
    provider has another version meanwhile.
    """

    model_config = _config({"enabled": False})

    name: Short | None = None
    credentials: _Credentials | None = None
    enabled: bool | None = None
    priority: Priority | None = None
    settings: ProviderSettings | None = None
    version: Annotated[int, Field(ge=1, strict=True)] | None = None
    verify: TestMessageRequest | None = Field(
        None, description="Sends this message with the new credentials first; they are stored if it is accepted."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> UpdateProviderRequest:
        for field in ("name", "credentials", "enabled", "priority", "settings"):
            if field in self.model_fields_set and getattr(self, field) is None:
                raise ValueError(f"{field} must not be null")
        if self.verify is not None and self.credentials is None:
            raise ValueError("verify needs credentials: it tests new ones before they are stored")
        return self


class ReorderProvidersRequest(BaseModel):
    """The new order of a channel: the first is tried first. Those that are not named follow in their earlier order.

    ``expectedIds``: the whole order that was read; the change is refused with 409 if it is another one meanwhile.
    """

    model_config = _config({"channel": "email", "providerIds": ["prv_01k6h7d2m4n8p0r3s5t7v9w1x3"]})

    channel: Channel
    provider_ids: list[Short] = Field(alias="providerIds", min_length=1, max_length=MAX_REORDERED)
    expected_ids: list[Short] | None = Field(None, alias="expectedIds", max_length=MAX_REORDERED)


class CredentialsStatus(StrEnum):
    """``unreadable``: the encryption key is lost, the row was changed, or the package is not installed."""

    SET = "set"
    UNREADABLE = "unreadable"


class CredentialsResponse(BaseModel):
    """Which credentials are set: each field with at most the last four characters of its value."""

    status: CredentialsStatus
    fields: dict[str, str]


class ThresholdsResponse(BaseModel):
    """The error rates from which a provider is degraded, and unhealthy."""

    degraded: float
    unhealthy: float


class ReceiptEvidenceResponse(BaseModel):
    """How many attempts receipts confirm, as shares of 1: of the last ones, and usually.

    ``late_failures``: share of the last attempts whose receipt blames the provider; ``wait_s``: seconds after which an
    attempt without a receipt is missing; ``silent_since``: when it was noticed that receipts have stopped or fallen.
    """

    recent_share: float
    usual_share: float
    late_failures: float
    wait_s: float
    silent_since: Timestamp | None


class EvidenceNumbersResponse(BaseModel):
    """What the status rests on. Numbers are weights: an attempt has half its weight after 30 s.

    ``failures``: a missing response weighs 1.5; ``not_counted``: attempts of which the provider is no cause, by outcome
    (`recipient_rejected`: the recipient; `declined`: the message; `throttled`: too many); ``cause`` of a degraded one:
    `errors`, `slow`, `unresponsive` or `receipts`.
    """

    failures: float
    slow_calls: float
    usual_latency_ms: int | None
    consecutive_failures: int
    cause: str | None
    thresholds: ThresholdsResponse | None
    not_counted: dict[str, float]
    receipts: ReceiptEvidenceResponse | None


class ProbesResponse(BaseModel):
    """The way back of a provider that is not healthy. ``successes``: in a row, of the ``needed`` ones."""

    next_at: Timestamp | None
    interval_s: float
    ended: int
    successes: int
    needed: int


class RampResponse(BaseModel):
    """The growing share of a provider that has returned; ``share`` is that of now."""

    since: Timestamp
    full_share_at: Timestamp
    share: float


class DestinationHealthResponse(BaseModel):
    """The health at one country or mail domain that differs."""

    destination: str
    status: str
    reason: str
    since: Timestamp | None
    error_rate: float
    samples: float


class SeedHealthResponse(BaseModel):
    """The status by the seed rule, which counts where the project has chosen it."""

    status: str
    reason: str
    error_rate: float
    attempts: int
    out_until: Timestamp | None


class HealthResponse(BaseModel):
    """The live health of a provider. A provider without attempts is `healthy`, and its ``updated_at`` is null.

    ``since``: when the status was reached, null if it was never another one.
    """

    status: str = Field(description="`healthy`, `degraded` or `unhealthy`")
    reason: str
    since: Timestamp | None
    error_rate: float
    samples: float = Field(description="Effective number of attempts behind the rate.")
    probe_at: Timestamp | None = Field(description="Unhealthy: when the next attempt may probe it.")
    suspended_until: Timestamp | None = Field(description="Throttled or suspended: no attempt before.")
    evidence: EvidenceNumbersResponse
    probes: ProbesResponse | None
    ramp: RampResponse | None
    destinations: list[DestinationHealthResponse]
    seed: SeedHealthResponse | None
    updated_at: Timestamp | None


class ProviderReceiptsResponse(BaseModel):
    """Whether receipts still come. ``accepted_since``: attempts that the provider accepted since the newest receipt.

    ``silent_since``: since when they count as stopped. ``refused``: webhook requests without a valid signature since.
    """

    received_at: Timestamp | None
    accepted_since: int
    silent_since: Timestamp | None
    refused: int
    refused_at: Timestamp | None


class StatusChangeResponse(BaseModel):
    """A status that the provider reached."""

    at: Timestamp
    status: str
    reason: str
    error_rate: float


class ProviderHealthResponse(BaseModel):
    """All that is known of a provider's health. ``changes``: of the last 31 days, oldest first, at most 100."""

    provider: ProviderReference
    health: HealthResponse
    receipts: ProviderReceiptsResponse
    changes: list[StatusChangeResponse]


class HealthStepResponse(BaseModel):
    """The worst of one step of time. ``samples``: behind the highest error rate."""

    at: Timestamp
    status: str
    error_rate: float
    samples: float


class HealthHistoryResponse(BaseModel):
    """The health of a provider by steps of ``step_s`` seconds; a step in which nothing was sent is missing."""

    step_s: int
    data: list[HealthStepResponse]


class ProviderResponse(BaseModel):
    """A provider.

    ``position`` counts from 1 among the providers of the channel. ``receipt_url``: the address for the provider's
    webhook, with its token where the package uses one; null for a package without webhooks or without a public address.
    """

    id: str
    package_name: str = Field(serialization_alias="packageName")
    name: str
    channel: Channel
    priority: int
    position: int
    enabled: bool
    credentials: CredentialsResponse
    settings: ProviderSettings
    health: HealthResponse
    receipt_url: str | None
    version: int
    created_at: Timestamp
    updated_at: Timestamp


class ProviderListResponse(BaseModel):
    """The providers of a project in routing order: by channel, then by position."""

    data: list[ProviderResponse]


class TestMessageResponse(BaseModel):
    """The result of one test call.

    ``outcome``: `accepted`, `recipient_rejected`, `declined`, `throttled`, `auth_failed`, `provider_fault`, or
    `unknown` (no answer: the message may have been sent).
    """

    __test__ = False  # not a class of tests

    outcome: str
    detail: str
    provider_message_id: str | None
    duration_ms: int
