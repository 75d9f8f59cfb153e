"""One of each: a message of every kind, with what matters to a test passed in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sluice.model.message import Attachment, ChatMessage, Email, Push, Sms, Whatsapp
from sluice.providers.contract import OutboundMessage, WebhookRequest

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def an_email(**changes: Any) -> Email:
    defaults: dict[str, Any] = {
        "sender": "Acme <no-reply@example.com>",
        "to": ("ana@example.org",),
        "subject": "Hi",
        "text": "hi",
    }
    return Email(**defaults | changes)


def an_sms(**changes: Any) -> Sms:
    defaults: dict[str, Any] = {"sender": "+15005550006", "text": "Your code is 4711"}
    return Sms(**defaults | changes)


def an_attachment(content: bytes, **changes: Any) -> Attachment:
    defaults: dict[str, Any] = {
        "filename": "a.pdf",
        "content_type": "application/pdf",
        "sha256": sha256(content).hexdigest(),
        "size": len(content),
    }
    return Attachment(**defaults | changes)


def outbound(content: Email | Sms | Whatsapp | ChatMessage | Push, **changes: Any) -> OutboundMessage:
    recipient = content.to[0] if isinstance(content, Email) and content.to else "+15005550100"
    defaults: dict[str, Any] = {
        "recipient": recipient,
        "reference": "att_01HX",
        "message_id": "msg_01HX",
        "created_at": NOON,
        "attempted_at": NOON,
    }
    return OutboundMessage(content=content, **defaults | changes)


def a_receipt(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    at: datetime = NOON,
    method: str = "POST",
) -> WebhookRequest:
    return WebhookRequest(method=method, url=url, headers=headers, body=body, received_at=at)
