"""The API's answers. A test compares these types with the OpenAPI document; a newer gateway may add fields."""

from __future__ import annotations

from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar

T = TypeVar("T")

Channel = Literal["email", "sms", "whatsapp", "telegram", "signal", "push"]
Role = Literal["ADMIN", "DEVELOPER", "VIEWER"]


class Page(TypedDict, Generic[T]):
    """Part of a list, newest first. ``next_cursor``: where the next part begins, null at the end."""

    data: list[T]
    next_cursor: str | None


class AcceptedResponse(TypedDict):
    """A message that was stored: it is sent, or its fate is recorded, whatever fails from now on."""

    id: str
    project_id: str
    status: str
    channel: str
    created_at: str


class ProviderReference(TypedDict):
    id: str
    name: str


class TemplateReference(TypedDict):
    """The version of a template that a message was made from."""

    id: str
    version: int


class EvidenceResponse(TypedDict):
    status: str
    error_rate: float
    attempts: float
    reason: str | None


class CandidateResponse(TypedDict):
    provider: ProviderReference
    priority: int
    weight: float | None
    price: float | None
    excluded: str | None
    evidence: EvidenceResponse | None


class DecisionResponse(TypedDict):
    decision: str
    policy: str | None
    destination: str | None
    provider: ProviderReference | None
    reason: str | None
    until: str | None
    candidates: list[CandidateResponse]


class EventResponse(TypedDict):
    id: str
    type: str
    status: str | None
    provider: ProviderReference | None
    recipient: str
    attempt: int | None
    reason: str | None
    detail: str
    routing: DecisionResponse | None
    created_at: str


class DeliveryReceiptResponse(TypedDict):
    type: str
    received_at: str


class DeliveryAttemptResponse(TypedDict):
    id: str
    number: int
    provider: ProviderReference
    round: int
    started_at: str
    finished_at: str | None
    duration_ms: int | None
    outcome: str | None
    detail: str
    reference: str
    provider_message_id: str | None
    routing: DecisionResponse | None
    receipts: list[DeliveryReceiptResponse]


class DeliveryResponse(TypedDict):
    id: str
    recipient: str
    status: str
    due_at: str | None
    failed_over: bool
    possible_duplicate: bool
    attempt_count: int
    event_count: int
    attempts: list[DeliveryAttemptResponse]


# ``class`` and ``from`` are words of Python.
MessageSummary = TypedDict(
    "MessageSummary",
    {
        "id": str,
        "project_id": str,
        "status": str,
        "channel": str,
        "class": str,
        "from": str | None,
        "to": list[str],
        "subject": str | None,
        "tags": list[str],
        "metadata": dict[str, Any] | None,
        "template": TemplateReference | None,
        "provider": ProviderReference | None,
        "attempts": int,
        "failed_over": bool,
        "possible_duplicate": bool,
        "created_at": str,
    },
)
MessageResponse = TypedDict(
    "MessageResponse",
    {
        "id": str,
        "project_id": str,
        "status": str,
        "channel": str,
        "class": str,
        "from": str | None,
        "to": list[str],
        "subject": str | None,
        "tags": list[str],
        "metadata": dict[str, Any] | None,
        "template": TemplateReference | None,
        "provider": ProviderReference | None,
        "attempts": int,
        "failed_over": bool,
        "possible_duplicate": bool,
        "created_at": str,
        "deliveries": list[DeliveryResponse],
        "events": list[EventResponse],
        "next_cursor": str | None,
    },
)


class ErrorDetail(TypedDict):
    """Why a message of a batch or a row of a bulk job was refused."""

    code: str
    message: str
    field: NotRequired[str | None]
    docs: NotRequired[str]


class BatchItem(TypedDict, total=False):
    """What became of a message of a batch: the fields of an accepted message, or ``error``."""

    id: str
    project_id: str
    status: str
    channel: str
    created_at: str
    error: ErrorDetail


class BatchResponse(TypedDict):
    """A result for each message, in their order."""

    data: list[BatchItem]


class BulkJobResponse(TypedDict):
    """A bulk job. Rows that are neither accepted nor rejected were not processed yet."""

    id: str
    status: str
    recipients: int
    accepted: int
    rejected: int
    created_at: str
    finished_at: str | None


class BulkProgressResponse(BulkJobResponse):
    """A bulk job with the states of its deliveries."""

    message: dict[str, Any]
    deliveries: dict[str, int]


class BulkResult(TypedDict):
    """What became of one row. ``status``: of its message."""

    row: int
    to: str | None
    message_id: str | None
    status: str | None
    error: ErrorDetail | None


class DeadLetterResponse(TypedDict):
    """A record that was refused, with its coordinates, or a delivery that failed, with its message."""

    id: str
    kind: str
    status: str
    reason: str
    topic: str | None
    partition: int | None
    offset: int | None
    message_id: str | None
    created_at: str
    resolved_at: str | None


class KeyResponse(TypedDict):
    id: str
    name: str
    prefix: str
    test: bool
    active: bool
    created_by: str | None
    created_at: str


class CreatedKeyResponse(KeyResponse):
    """``key`` is shown here and never again."""

    key: str


class ProjectResponse(TypedDict):
    id: str
    slug: str
    name: str
    default_sender: str | None
    verified_senders_only: bool
    routing: dict[str, str]
    role: str | None
    created_at: str


class MemberResponse(TypedDict):
    status: str
    user_id: str
    email: str
    name: str
    role: str
    created_at: str


class DeletedResponse(TypedDict):
    id: str
    deleted: bool


class PercentilesResponse(TypedDict):
    """Of durations, in milliseconds."""

    p50: float
    p95: float
    p99: float


class NumbersResponse(TypedDict):
    """What became of the messages of a group. What the request does not group by is null."""

    channel: str | None
    provider: ProviderReference | None
    tag: str | None
    settled: int
    sent: int
    delivered: int
    failed: int
    unconfirmed: int
    bounced: int
    complained: int
    opened: int
    clicked: int
    failovers: int
    failure_rate: float | None
    cost: float
    unpriced: int
    cost_per_delivered: float | None
    accept_to_sent_ms: PercentilesResponse | None
    sent_to_delivered_ms: PercentilesResponse | None


class PointResponse(NumbersResponse):
    """The numbers of one interval."""

    starts_at: str


AnalyticsResponse = TypedDict(
    "AnalyticsResponse",
    {
        "interval": str,
        "from": str,
        "to": str,
        "totals": list[NumbersResponse],
        "data": list[PointResponse],
    },
)
