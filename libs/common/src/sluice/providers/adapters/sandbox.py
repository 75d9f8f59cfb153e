"""The sandbox: accepts every message, sends none, and keeps each for ``sluice captured``."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sluice.model.message import Channel, ChatMessage, Email, Push, Sms, Whatsapp
from sluice.model.outcome import Accepted, Outcome
from sluice.providers.contract import Credentials, OutboundMessage, Package, TransportKind

SANDBOX_PROVIDER_ID = UUID("00000000-0000-7000-8000-000000000000")
"""The provider id of the sandbox, which every project has and which has no row."""


class SandboxCredentials(Credentials):
    """None are needed."""


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """A message to capture; ``reference`` is its key, so that a retry captures nothing new."""

    reference: str
    message_id: str
    recipient: str
    content: Email | Sms | Whatsapp | ChatMessage | Push


@dataclass(frozen=True, slots=True)
class CaptureResult:
    """The message is kept under this id."""

    capture_id: str


def build(message: OutboundMessage, _: SandboxCredentials) -> CaptureRequest:
    """The message as it is."""
    return CaptureRequest(message.reference, message.message_id, message.recipient, message.content)


def classify(result: CaptureResult) -> Outcome:
    """Always accepted: a capture that cannot be written raises in the transport."""
    return Accepted(result.capture_id)


SANDBOX = Package(
    name="provider-sandbox",
    title="Sandbox",
    channels=tuple(Channel),
    credentials=SandboxCredentials,
    transport=TransportKind.SANDBOX,
    build=build,
    classify=classify,
    idempotent=True,
    max_recipients=50,
    supports_attachments=True,
    supports_html=True,
)
