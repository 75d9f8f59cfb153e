"""Examples of our nouns: a test names what matters to it, these supply the rest."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sluice.bus.messages import Assignment, Drive, ProviderHealth, Repeat
from sluice.delivery.retry_policy import Timing
from sluice.model import ids
from sluice.model.message import Channel, Class, Email
from sluice.store.configuration import ProviderRow
from sluice.store.deliveries import Claim, Transition
from sluice.store.ingest import NewDelivery, NewMessage

NOON = datetime(2026, 8, 20, 12, 0, tzinfo=UTC)
PROJECT = ids.uuid7(1)
OTHER_PROJECT = ids.uuid7(2)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def after(number: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=number)


def milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def an_id(when: datetime = NOON) -> UUID:
    return ids.uuid7(milliseconds(when))


def a_drive(**changes: Any) -> Drive:
    message_id = an_id()
    defaults: dict[str, Any] = {
        "delivery_id": ids.sibling(message_id),
        "message_id": message_id,
        "project_id": PROJECT,
        "channel": Channel.EMAIL,
        "class_": Class.STANDARD,
        "driven_at": NOON,
        "expires_at": after(3600),
    }
    return Drive(**defaults | changes)


def an_assignment(**changes: Any) -> Assignment:
    drive = changes.pop("drive", None) or a_drive()
    defaults: dict[str, Any] = {
        "drive": drive,
        "provider_id": an_id(),
        "package": "provider-smtp",
        "reference": ids.reference_of(drive.delivery_id, drive.attempt),
        "decision": "{}",
    }
    return Assignment(**defaults | changes)


def a_repeat(provider: ProviderRow | None = None, reference: str = "att_before") -> Repeat:
    return Repeat(provider_id=provider.id if provider else an_id(), reference=reference)


def a_provider(priority: int = 1, **changes: Any) -> ProviderRow:
    defaults: dict[str, Any] = {
        "id": an_id(),
        "project_id": PROJECT,
        "package": "provider-smtp",
        "channel": Channel.EMAIL,
        "name": f"smtp {priority}",
        "priority": priority,
        "enabled": True,
        "credentials": b"",
        "settings": {},
        "version": 1,
        "deleted": False,
    }
    return ProviderRow(**defaults | changes)


def health_of(provider: ProviderRow, verdict: str, **changes: Any) -> ProviderHealth:
    defaults: dict[str, Any] = {
        "provider_id": provider.id,
        "project_id": provider.project_id,
        "channel": provider.channel,
        "verdict": verdict,
        "at": NOON,
    }
    return ProviderHealth(**defaults | changes)


def timing(**changes: Any) -> Timing:
    return Timing(postgres="postgresql://nowhere", kafka="nowhere:1", **changes)


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
        "class_": Class.STANDARD,
        "sender": "Shop <shop@example.com>",
        "content": an_email().model_dump_json(),
        "deliveries": tuple(NewDelivery(ids.sibling(message_id), recipient) for recipient in to),
        "created_at": when,
        "expires_at": when + timedelta(hours=72),
        "due_at": when + timedelta(seconds=8),
    }
    return NewMessage(**defaults | changes)


def a_keyed_message(key: str = "order-7", fingerprint: bytes = b"one body", **changes: Any) -> NewMessage:
    return a_message(idempotency_key=key, fingerprint=fingerprint, **changes)


def a_claim(delivery_id: UUID, number: int = 1, **changes: Any) -> Claim:
    defaults: dict[str, Any] = {
        "delivery_id": delivery_id,
        "project_id": PROJECT,
        "number": number,
        "provider_id": PROVIDER,
        "round": 1,
        "reference": ids.reference_of(delivery_id, number),
        "decision": "{}",
    }
    return Claim(**defaults | changes)


PROVIDER = ids.uuid7(3)


def a_step(delivery_id: UUID, kind: Any, **changes: Any) -> Transition:
    """A step of a delivery that is in its first attempt."""
    defaults: dict[str, Any] = {
        "delivery_id": delivery_id,
        "attempt": 1,
        "in_flight": True,
        "kind": kind,
        "at": after(2),
    }
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
