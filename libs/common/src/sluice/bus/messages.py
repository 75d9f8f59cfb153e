"""The values of all records on the bus. New fields have defaults; a field is never renamed or removed.

Records carry identifiers and facts: no content, no recipient, no credential. A worker reads those from the database
when it claims a delivery (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, get_args
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sluice.model.ids import encode_id
from sluice.model.message import Channel, DeliveryClass
from sluice.model.state import EventType, State
from sluice.runtime import tracing

SCHEMA_VERSION = 2
VERSION_HEADER = "schema-version"
CORRELATION_HEADER = "correlation_id"


class BusMessage(BaseModel):
    """Base of all records. Unknown fields are ignored: a newer version may have written them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> bytes:
        """The value of the record: JSON without the fields that have their default."""
        return self.model_dump_json(exclude_defaults=True).encode()

    @classmethod
    def encode_unchecked(cls, **fields: object) -> bytes:
        """The value of a record with these fields, without validation, for the hot path.

        A model and its dump cost three times as much. Fields that are None or an empty text are omitted.
        """
        present = {name: value for name, value in fields.items() if value is not None and value != ""}
        return orjson.dumps(present, default=str)  # str: asyncpg's subclass of UUID


class RetryHandle(BaseModel):
    """An unknown attempt that may be retried at the same provider under the same attempt reference."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    provider_id: UUID
    reference: str


class DeliveryTask(BusMessage):
    """``deliveries.accepted`` and ``deliveries.reroute``: the request for the next attempt of a delivery."""

    delivery_id: UUID
    message_id: UUID
    project_id: UUID
    channel: Channel
    delivery_class: DeliveryClass
    enqueued_at: AwareDatetime  # when it entered the dispatch queue, unchanged from topic to topic
    expires_at: AwareDatetime
    attempt: int = Field(1, ge=1, le=30_000)  # number of the next attempt
    retry_round: int = Field(1, ge=1, le=30_000)
    attempted_providers: tuple[UUID, ...] = ()  # in this round
    deprioritized: tuple[UUID, ...] = ()  # had no free slot for it: selected after all others of the same health
    hops: int = Field(0, ge=0, le=30_000)  # how often a worker handed it back since the last attempt
    unknown_attempts: int = 0
    preferred_provider_id: UUID | None = None
    destination: str = ""  # the recipient's country or mail domain, for health by destination
    sandbox: bool = False
    retry_handle: RetryHandle | None = None
    errors: dict[UUID, str] = Field(default_factory=dict)  # of this round, by provider
    all_declined: bool = True  # every attempt of this round ended Declined: another round would as well
    throttled: bool = False  # an attempt of this round ended Throttled: the rounds go on until the expiry
    # Of this delivery at a provider that throttled its recipient or sender, and named a time.
    not_before: dict[UUID, AwareDatetime] = Field(default_factory=dict)
    awaited: bool = False  # a send request waits for the end of the only round
    segments: int = Field(1, ge=1, le=30_000)  # of an SMS
    # Of the span that the next one is below; None: the message is not traced. It travels in Kafka headers.
    traceparent: str | None = Field(None, exclude=True)

    def below(self, headers: Sequence[tuple[str, bytes | None]]) -> DeliveryTask:
        """The task with the ``traceparent`` of its record's headers."""
        traceparent = tracing.parent_in(headers)
        return self if traceparent is None else self.model_copy(update={"traceparent": traceparent})

    def headers(self) -> dict[str, str] | None:
        """The headers of a record with this task."""
        return tracing.headers_for(self.traceparent)

    def ids(self) -> dict[str, str | int]:
        """The ids by which a log line or a span names the message, the delivery and the attempt."""
        return {
            "message": encode_id("msg", self.message_id),
            "delivery": str(self.delivery_id),
            "attempt": self.attempt,
        }


class Assignment(BusMessage):
    """``deliveries.<channel>``: the next attempt of a delivery is made at this provider."""

    task: DeliveryTask
    provider_id: UUID
    package: str
    reference: str
    routing_decision: str  # JSON: see sluice.routing.decision

    @classmethod
    def encode_with_raw_task(cls, raw_task: bytes, **fields: object) -> bytes:
        """As :meth:`encode_unchecked`, with a delivery task that is already encoded."""
        return b'{"task":%b,%b' % (raw_task, cls.encode_unchecked(**fields)[1:])


class AttemptReport(BusMessage):
    """The part of a :class:`DeliveryEvent` about the provider, all that the health service reads."""

    project_id: UUID
    channel: Channel
    occurred_at: AwareDatetime
    provider_id: UUID | None = None
    outcome: str | None = None  # of the attempt: see sluice.model.outcome.outcome_name
    scope: str | None = None  # message (also: the worker was lost or paused), recipient, pair, sender, account
    duration_ms: int | None = None  # the attempt's duration
    destination: str = ""  # the recipient's country or mail domain
    retry_after_s: float | None = None  # throttled: the pause that the provider asked for
    # Of a receipt, whose outcome is None, and to find the attempt that it confirms:
    delivery_id: UUID | None = None
    type: str = ""
    reason: str | None = None  # of a refusal or a negative receipt: a word of sluice.model.reasons


class DeliveryEvent(AttemptReport):
    """``delivery.events``: one event of a delivery, published after it was committed; at least once."""

    delivery_id: UUID
    sequence: int  # with delivery_id the identity of the event; repeats are equal
    message_id: UUID
    type: EventType
    state: State | None = None
    attempt: int | None = None
    detail: str = ""


def _type_is_required(schema: dict[str, Any]) -> None:
    schema["required"] = ["type", *schema.get("required", ())]


class _NonDeliveryEvent(BusMessage):
    """An event on ``delivery.events`` that belongs to no delivery."""

    model_config = ConfigDict(json_schema_extra=_type_is_required)

    def encode(self) -> bytes:
        """JSON with ``type``, which distinguishes it from a :class:`DeliveryEvent`, although it is a default."""
        return self.model_dump_json().encode()


class _RequestAnswer(_NonDeliveryEvent):
    """What became of a record on ``send.requests``, named by its ``topic``, ``partition`` and ``offset``.

    A header ``correlation_id`` of that record is a header of the answer.
    """

    project_id: UUID
    idempotency_key: str | None = None
    topic: str
    partition: int
    offset: int
    occurred_at: AwareDatetime


class RequestAccepted(_RequestAnswer):
    """``delivery.events``: a request on ``send.requests`` was accepted, and its message is stored; at least once."""

    type: Literal["request_accepted"] = "request_accepted"
    message_id: UUID  # as in the events of its deliveries
    id: str  # the same, as the HTTP APIs write it: msg_…
    replayed: bool  # an earlier request with this idempotency key, or this record, was accepted as this message
    sandbox: bool  # of a test key: captured, not sent


class RequestRejected(_RequestAnswer):
    """``delivery.events``: a request on ``send.requests`` with a valid API key was rejected."""

    type: Literal["request_rejected"] = "request_rejected"
    code: str
    message: str
    field: str | None = None


class ProviderUnresponsive(_NonDeliveryEvent, AttemptReport):
    """``delivery.events``: all slots of a provider in one worker are taken, and no call has ended for a while.

    Published before any of those attempts has an outcome, and again every two seconds while it lasts.
    """

    type: Literal["provider_unresponsive"] = "provider_unresponsive"
    outcome: str | None = "unresponsive"  # not of an attempt: for readers of :class:`AttemptReport`
    concurrency: int  # calls without a response
    unresponsive_for_s: float  # since the last call that ended, or started


class ProviderProbeRequested(_NonDeliveryEvent, AttemptReport):
    """``delivery.events``: a person asks that the next message probes a provider that is not healthy."""

    type: Literal["provider_probe_requested"] = "provider_probe_requested"
    outcome: str | None = "probe_requested"  # not of an attempt: for readers of :class:`AttemptReport`


NonDeliveryEvent = RequestAccepted | RequestRejected | ProviderUnresponsive | ProviderProbeRequested
NON_DELIVERY_TYPES: Final = frozenset(event.model_fields["type"].default for event in get_args(NonDeliveryEvent))


class HealthState(BaseModel):
    """The health of a provider, or of a destination of it, or of a provider by the seed rule."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str  # healthy, degraded, unhealthy
    reason: str = ""
    since: AwareDatetime | None = None  # when the status was reached; None: it was never another one
    error_rate: float = 0.0
    effective_samples: float = 0.0  # effective number of attempts behind the rate
    probe_at: AwareDatetime | None = None  # not healthy: the time of the first probe
    probe_interval: float = 0.0  # seconds between two probes
    probe_results: int = 0  # probes whose end the health service has seen
    healthy_since: AwareDatetime | None = None  # after it was not: its share of the traffic grows
    full_share_at: AwareDatetime | None = None  # until then


class ReceiptEvidence(BaseModel):
    """How many attempts the provider's receipts confirm. Shares of 1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    recent_share: float  # of the last attempts whose wait is over
    usual_share: float
    late_failures: float = 0.0  # share of the last attempts whose receipt blames the provider
    wait: float  # seconds after which an attempt without a receipt is missing
    silent_since: AwareDatetime | None = None


class HealthEvidence(BaseModel):
    """What a status rests on. Numbers of attempts are weights, as those of ``effective_samples``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    failures: float = 0.0  # an attempt without a response weighs 1.5
    slow_calls: float = 0.0
    usual_latency: float | None = None  # seconds
    consecutive_failures: int = 0
    cause: str = ""  # degraded: errors, slow, unresponsive, receipts
    probe_successes: int = 0  # in a row
    probes_needed: int = 0  # successes in a row that make it healthy; 0 for a healthy one
    degraded_error_rate: float = 0.0  # the thresholds
    unhealthy_error_rate: float = 0.0
    not_counted: dict[str, float] = Field(default_factory=dict)  # by outcome: no fault of the provider
    receipts: ReceiptEvidence | None = None  # None: too few, or the provider sends none


class ProviderHealth(HealthState, BusMessage):
    """``provider.health``: the newest health status of a provider; the record key is the provider's id."""

    provider_id: UUID
    project_id: UUID
    channel: Channel
    evidence: HealthEvidence = HealthEvidence()
    suspended_until: AwareDatetime | None = None  # throttled or suspended: no call before
    destinations: dict[str, HealthState] = Field(default_factory=dict)  # those that differ from the provider's
    seed: HealthState | None = None  # by the seed rule, if it is not healthy by that
    updated_at: AwareDatetime
