"""The sandbox: takes everything, sends nothing. What it took can be read in the outbox."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.model.message import Channel, ChatMessage, Email, Push, Sms, Whatsapp
from sluice.model.outcome import Accepted, Outcome
from sluice.providers.contract import Credentials, OutboundMessage, Package, TransportKind


class SandboxCredentials(Credentials):
    """None are needed."""


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """A message for the outbox; ``reference`` is its key, so that a repeat captures nothing new."""

    reference: str
    message_id: str
    recipient: str
    content: Email | Sms | Whatsapp | ChatMessage | Push


@dataclass(frozen=True, slots=True)
class CaptureResult:
    """The outbox has it under this id."""

    capture_id: str


def build(message: OutboundMessage, _: SandboxCredentials) -> CaptureRequest:
    """The message as it is."""
    return CaptureRequest(message.reference, message.message_id, message.recipient, message.content)


def classify(answer: CaptureResult) -> Outcome:
    """Always accepted: an outbox that cannot write raises in the wire."""
    return Accepted(answer.capture_id)


SANDBOX = Package(
    name="provider-sandbox",
    title="Sandbox",
    channels=tuple(Channel),
    credentials=SandboxCredentials,
    transport=TransportKind.SANDBOX,
    build=build,
    classify=classify,
    idempotent=True,
)
