"""Everything that travels on the bus between roles. Add fields with defaults; never rename or remove one.

Records carry identifiers and facts: no content, no recipient, no credential. What a worker needs of those it reads
from the record when it claims.
"""

from __future__ import annotations

from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sluice.model.message import Channel, DeliveryClass
from sluice.model.state import EventType, State

SCHEMA_VERSION = 2
VERSION_HEADER = "schema-version"


class BusMessage(BaseModel):
    """Base: frozen; a field that is not known yet is news from a newer writer, not an error."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> bytes:
        """The record's value on the bus: JSON without what is at its default."""
        return self.model_dump_json(exclude_defaults=True).encode()

    @classmethod
    def encode_unchecked(cls, **fields: object) -> bytes:
        """The value of a record with these fields, which are not looked at: for those who make one for each message.

        Making a model and dumping it costs three times as much. What is None or an empty text is left out.
        """
        told = {name: value for name, value in fields.items() if value is not None and value != ""}
        return orjson.dumps(told, default=str)  # str: the UUIDs that asyncpg makes


class RetryHandle(BaseModel):
    """An ambiguous attempt that may be made again at the same provider under the same reference."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    provider_id: UUID
    reference: str


class DeliveryTask(BusMessage):
    """``deliveries.accepted`` and ``deliveries.reroute``: a delivery wants its next attempt."""

    delivery_id: UUID
    message_id: UUID
    project_id: UUID
    channel: Channel
    delivery_class: DeliveryClass
    enqueued_at: AwareDatetime  # when the record put it on the conveyor, unchanged from topic to topic
    expires_at: AwareDatetime
    attempt: int = Field(1, ge=1, le=30_000)  # the number that the next attempt will have
    retry_round: int = Field(1, ge=1, le=30_000)
    attempted_providers: tuple[UUID, ...] = ()  # in this round
    deprioritized: tuple[UUID, ...] = ()  # could not take it just now: only if nobody else can
    unknown_attempts: int = 0
    preferred_provider_id: UUID | None = None
    sandbox: bool = False
    retry_handle: RetryHandle | None = None
    last_error: str = ""  # of the attempt before


class Assignment(BusMessage):
    """``deliveries.<channel>``: make this attempt at this provider."""

    task: DeliveryTask
    provider_id: UUID
    package: str
    reference: str
    routing_decision: str  # JSON: every candidate and why it was taken or left out

    @classmethod
    def encode_with_raw_task(cls, raw_task: bytes, **fields: object) -> bytes:
        """As :meth:`encoded`, with a drive that came as these bytes; they go on as they are."""
        return b'{"task":%b,%b' % (raw_task, cls.encode_unchecked(**fields)[1:])


class AttemptReport(BusMessage):
    """The part of a :class:`DeliveryEvent` that says how a provider did, for readers of that alone."""

    project_id: UUID
    channel: Channel
    occurred_at: AwareDatetime
    provider_id: UUID | None = None
    outcome: str | None = None  # of the attempt: see sluice.model.outcome.outcome_name
    scope: str | None = None  # declined, throttled: message, recipient, pair, sender, account
    retry_after_s: float | None = None  # throttled: how long the provider asks not to be called


class DeliveryEvent(AttemptReport):
    """``delivery.events``: one line of a delivery's history, announced after it was settled."""

    delivery_id: UUID
    sequence: int  # with the delivery: the identity of the event; repeats are equal
    message_id: UUID
    type: EventType
    state: State | None = None
    attempt: int | None = None
    duration_ms: int | None = None  # the attempt's duration
    reason: str | None = None  # of a refusal or a negative receipt: a word of sluice.model.reasons
    detail: str = ""


class _NonDeliveryEvent(BusMessage):
    """Also on ``delivery.events``, and of another kind than a :class:`DeliveryEvent`."""

    def encode(self) -> bytes:
        """With ``kind``, by which readers tell it from a :class:`DeliveryEvent`."""
        return self.model_dump_json().encode()


class RequestRejected(_NonDeliveryEvent):
    """``delivery.events``: a request on ``send.requests`` whose sender is known was refused."""

    type: str = "request_rejected"
    project_id: UUID
    code: str
    message: str
    field: str | None = None
    idempotency_key: str | None = None
    topic: str
    partition: int
    offset: int
    occurred_at: AwareDatetime


class ProviderUnresponsive(_NonDeliveryEvent, AttemptReport):
    """``delivery.events``: a worker has all its slots at a provider taken, and for a while no call has ended.

    Told before any of those attempts has an outcome, and again as long as it lasts.
    """

    type: str = "provider_unresponsive"
    outcome: str | None = "unresponsive"  # of none of the attempts: for readers of :class:`AttemptMade`
    concurrency: int  # calls that are without an answer
    unresponsive_for_s: float  # since the last one that ended, or began


class ProviderHealth(BusMessage):
    """``provider.health``: the newest verdict about one provider; the key is the provider's id."""

    provider_id: UUID
    project_id: UUID
    channel: Channel
    status: str  # healthy, degraded, unhealthy
    reason: str = ""
    probe_at: AwareDatetime | None = None  # unhealthy: a few messages may try it again from then on
    suspended_until: AwareDatetime | None = None  # throttled or parked: no call at all before
    error_rate: float = 0.0
    effective_samples: float = 0.0  # effective number of attempts behind the rate
    updated_at: AwareDatetime
