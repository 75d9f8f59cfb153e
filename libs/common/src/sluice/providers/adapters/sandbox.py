"""The sandbox: takes everything, sends nothing. What it took can be read in the outbox."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.model.message import Channel, Chat, Email, Push, Sms, Whatsapp
from sluice.model.outcome import Accepted, Outcome
from sluice.providers.contract import Credentials, Outgoing, Package, Wire


class SandboxCredentials(Credentials):
    """None are needed."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A message for the outbox; ``reference`` is its key, so that a repeat captures nothing new."""

    reference: str
    message_id: str
    recipient: str
    content: Email | Sms | Whatsapp | Chat | Push


@dataclass(frozen=True, slots=True)
class Captured:
    """The outbox has it under this id."""

    capture_id: str


def build(outgoing: Outgoing, _: SandboxCredentials) -> Capture:
    """The message as it is."""
    return Capture(outgoing.reference, outgoing.message_id, outgoing.recipient, outgoing.content)


def classify(answer: Captured) -> Outcome:
    """Always accepted: an outbox that cannot write raises in the wire."""
    return Accepted(answer.capture_id)


SANDBOX = Package(
    name="provider-sandbox",
    title="Sandbox",
    channels=tuple(Channel),
    credentials=SandboxCredentials,
    wire=Wire.SANDBOX,
    build=build,
    classify=classify,
    idempotent=True,
)
