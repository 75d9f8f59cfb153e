"""Example values: a test names the fields that matter to it, and these functions supply the others."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from sluice.bus.messages import (
    Assignment,
    DeliveryTask,
    ProviderHealth,
    ProviderUnresponsive,
    RequestAccepted,
    RequestRejected,
    RetryHandle,
)
from sluice.delivery.retry_policy import RetryPolicy
from sluice.model import ids
from sluice.model.candidate import Candidate
from sluice.model.message import Channel, DeliveryClass, Email
from sluice.model.routing_policy import RoutingPolicy
from sluice.store.dead_letters import DeadLetter, LetterKind, LetterStatus
from sluice.store.deliveries import Claim, Transition
from sluice.store.ingest import NewDelivery, NewMessage
from sluice.store.providers import ProviderRow

NOON = datetime(2026, 8, 20, 12, 0, tzinfo=UTC)
PROJECT = ids.uuid7(1)
OTHER_PROJECT = ids.uuid7(2)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def after(number: float) -> datetime:
    """The time ``number`` seconds after noon."""
    return NOON + timedelta(seconds=number)


def milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def an_id(when: datetime = NOON) -> UUID:
    return ids.uuid7(milliseconds(when))


def a_task(**changes: Any) -> DeliveryTask:
    message_id = an_id()
    defaults: dict[str, Any] = {
        "delivery_id": ids.uuid7_like(message_id),
        "message_id": message_id,
        "project_id": PROJECT,
        "channel": Channel.EMAIL,
        "delivery_class": DeliveryClass.STANDARD,
        "enqueued_at": NOON,
        "expires_at": after(3600),
    }
    return DeliveryTask(**defaults | changes)


def an_assignment(**changes: Any) -> Assignment:
    task = changes.pop("task", None) or a_task()
    defaults: dict[str, Any] = {
        "task": task,
        "provider_id": an_id(),
        "package": "provider-smtp",
        "reference": ids.attempt_reference(task.delivery_id, task.attempt),
        "routing_decision": "{}",
    }
    return Assignment(**defaults | changes)


def a_retry_handle(provider: Candidate | ProviderRow | None = None, reference: str = "att_before") -> RetryHandle:
    return RetryHandle(provider_id=provider.id if provider else an_id(), reference=reference)


def a_provider(priority: int = 1, **changes: Any) -> ProviderRow:
    defaults: dict[str, Any] = {
        "id": an_id(),
        "project_id": PROJECT,
        "package": "provider-smtp",
        "channel": Channel.EMAIL,
        "name": f"smtp {priority}",
        "priority": priority,
        "enabled": True,
        "encrypted_credentials": b"",
        "settings": {},
        "version": 1,
        "deleted": False,
    }
    return ProviderRow(**defaults | changes)


def a_candidate(priority: int = 1, **changes: Any) -> Candidate:
    defaults: dict[str, Any] = {"id": an_id(), "package": "provider-smtp", "priority": priority}
    return Candidate(**defaults | changes)


def a_config(
    candidates: Iterable[Candidate], policy: RoutingPolicy = RoutingPolicy.ADAPTIVE, **fields: Any
) -> SimpleNamespace:
    """What routing reads of the configuration: every project has these candidates, which may change."""
    found = {"candidates": lambda *_: tuple(candidates), "routing_policy": lambda _: policy, "providers": {}}
    return SimpleNamespace(**found | fields)


def health_of(provider: Candidate | ProviderRow, status: str, **changes: Any) -> ProviderHealth:
    defaults: dict[str, Any] = {
        "provider_id": provider.id,
        "project_id": PROJECT,
        "channel": Channel.EMAIL,
        "status": status,
        "updated_at": NOON,
    }
    return ProviderHealth(**defaults | changes)


def a_rejection(**changes: Any) -> RequestRejected:
    """The answer to a rejected record on ``send.requests``."""
    return RequestRejected(**{**_ANSWER, "code": "c", "message": "m", **changes})


def an_acceptance(**changes: Any) -> RequestAccepted:
    """The answer to an accepted one."""
    return RequestAccepted(
        **{**_ANSWER, "message_id": an_id(), "id": "msg_1", "replayed": False, "sandbox": False, **changes}
    )


_ANSWER = {"project_id": PROJECT, "topic": "send.requests", "partition": 0, "offset": 1, "occurred_at": NOON}


def an_unresponsiveness(**changes: Any) -> ProviderUnresponsive:
    """The report that a provider answers no call."""
    defaults: dict[str, Any] = {
        "provider_id": PROVIDER,
        "project_id": PROJECT,
        "channel": "sms",
        "concurrency": 256,
        "unresponsive_for_s": 2.0,
        "occurred_at": NOON,
    }
    return ProviderUnresponsive(**defaults | changes)


def a_policy(**changes: Any) -> RetryPolicy:
    return RetryPolicy(**changes)


def an_email(**changes: Any) -> Email:
    defaults: dict[str, Any] = {
        "sender": "Shop <shop@example.com>",
        "to": ("ada@example.com",),
        "subject": "Grüße aus Köln",
        "text": "Hello.",
    }
    return Email(**defaults | changes)


def a_message(when: datetime = NOON, *, to: tuple[str, ...] = ("ada@example.com",), **changes: Any) -> NewMessage:
    message_id = an_id(when)
    defaults: dict[str, Any] = {
        "id": message_id,
        "project_id": PROJECT,
        "channel": Channel.EMAIL,
        "delivery_class": DeliveryClass.STANDARD,
        "sender": "Shop <shop@example.com>",
        "content": an_email().model_dump_json(),
        "deliveries": tuple(NewDelivery(ids.uuid7_like(message_id), recipient) for recipient in to),
        "created_at": when,
        "expires_at": when + timedelta(hours=72),
        "due_at": when + timedelta(seconds=8),
    }
    return NewMessage(**defaults | changes)


def a_keyed_message(key: str = "order-7", fingerprint: bytes = b"one body", **changes: Any) -> NewMessage:
    return a_message(idempotency_key=key, fingerprint=fingerprint, **changes)


def a_letter(**changes: Any) -> DeadLetter:
    defaults: dict[str, Any] = {
        "id": an_id(),
        "project_id": PROJECT,
        "kind": LetterKind.INVALID_RECORD,
        "status": LetterStatus.OPEN,
        "reason": "no JSON",
        "topic": "send.requests",
        "partition": 3,
        "record_offset": 17,
        "delivery_id": None,
        "message_id": None,
        "letter_partition": 0,
        "letter_offset": 5,
        "occurred_at": NOON,
        "resolved_at": None,
    }
    return DeadLetter(**defaults | changes)


def a_claim(delivery_id: UUID, number: int = 1, **changes: Any) -> Claim:
    defaults: dict[str, Any] = {
        "delivery_id": delivery_id,
        "project_id": PROJECT,
        "attempt": number,
        "provider_id": PROVIDER,
        "retry_round": 1,
        "reference": ids.attempt_reference(delivery_id, number),
        "routing_decision": "{}",
        "sandbox": False,
    }
    return Claim(**defaults | changes)


PROVIDER = ids.uuid7(3)


def a_transition(delivery_id: UUID, type: Any, **changes: Any) -> Transition:
    """A transition of a delivery in its first attempt; without a due time its next attempt is enqueued."""
    defaults: dict[str, Any] = {
        "delivery_id": delivery_id,
        "project_id": PROJECT,
        "attempt": 1,
        "in_flight": True,
        "type": type,
        "occurred_at": after(2),
    }
    if "due_at" not in changes:
        defaults |= {"due_at": after(10), "enqueued_at": after(2)}
    return Transition(**defaults | changes)


def a_body(**changes: Any) -> dict[str, Any]:
    """The JSON of a request for one e-mail; a change to None removes the field."""
    defaults: dict[str, Any] = {
        "channel": "email",
        "from": "Shop <shop@example.com>",
        "to": ["ada@example.com"],
        "subject": "Grüße aus Köln",
        "text": "Hello.",
    }
    return {name: value for name, value in (defaults | changes).items() if value is not None}


def as_json(document: object) -> bytes:
    return json.dumps(document).encode()
