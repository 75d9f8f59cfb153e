"""A message of every kind, webhook requests, and the sample account of every package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from typing import Any

from pydantic import SecretStr

from sluice.model.message import Attachment, Channel, ChatMessage, Email, Push, Sms, Whatsapp
from sluice.providers.contract import AnyPackage, Credentials, OutboundMessage, WebhookRequest

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HIDDEN = "s3cr3tThatNoTextMayShow0"  # in every secret of a sample; base64, as some secrets are


@dataclass(frozen=True)
class Sample:
    """One account of a package: ``SAMPLE`` in the test file of its adapter.

    ``credentials`` holds every field that matters, each secret with HIDDEN in it. ``webhook_secret`` signs receipts
    when the provider's dashboard holds it. ``access_token`` is what the simulator accepts after a token exchange.
    """

    credentials: Mapping[str, Any]
    webhook_secret: str = ""
    access_token: SecretStr | None = None


def sample_of(package: AnyPackage) -> Sample:
    """The sample account in the test file of the package's adapter."""
    adapter = package.build.__module__.rpartition(".")[2]
    found: Sample = import_module(f"tests.unit.providers.test_{adapter}").SAMPLE
    return found


def credentials_of(package: AnyPackage, **changes: Any) -> Credentials:
    """The sample account's credentials, with other fields."""
    complete: Credentials = package.credentials.model_validate({**sample_of(package).credentials, **changes})
    return complete


def content_for(package: AnyPackage) -> Email | Sms | Whatsapp | ChatMessage | Push:
    """A message that the package can carry."""
    channel = package.channels[0]
    match channel:
        case Channel.EMAIL:
            return an_email()
        case Channel.SMS:
            return an_sms()
        case Channel.WHATSAPP:
            return Whatsapp(text="Hello")
        case Channel.PUSH:
            return Push(title="Hello", text="there")
        case Channel.TELEGRAM | Channel.SIGNAL:
            return ChatMessage(channel=channel.value, text="Hello")


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
