"""What a provider package is: a record of pure functions. No sockets, no clock, no settings in here.

A package says how a message becomes a request of one *wire* (HTTP, SMTP, the sandbox), how that wire's
answer becomes an :data:`~sluice.model.outcome.Outcome`, and how the provider's receipts are checked and read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from sluice.model.message import Channel, ChatMessage, Email, Push, Sms, Whatsapp
from sluice.model.outcome import Outcome
from sluice.runtime.clock import utc_now


class Credentials(BaseModel):
    """Base of every package's credentials: unknown fields are refused, secrets are ``SecretStr``."""

    # A validation error is shown to the caller and logged: it must not repeat the value it complains about.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)


class TransportKind(StrEnum):
    """How a request leaves the house; the worker has one transport for each."""

    HTTP = "http"
    SMTP = "smtp"
    SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """One delivery on its way to one provider."""

    content: Email | Sms | Whatsapp | ChatMessage | Push
    recipient: str  # number, chat id or device token; for e-mail the first ``to``, the rest is in the content
    reference: str  # "att_…": unique per attempt, kept when an ambiguous one is repeated at its provider
    message_id: str  # public id, "msg_…", the same over all attempts
    created_at: datetime  # when the message was accepted; the Date of a mail, so that repeats are identical
    attachments: Mapping[str, bytes] = field(default_factory=dict)  # content by sha256
    callback_url: str | None = None  # where receipts should go; None when we have no public address
    attempted_at: datetime = field(default_factory=utc_now)  # the only clock a package sees: dated signatures


class ReceiptKind(StrEnum):
    """What a receipt tells; the first group moves the state, the second only adds an event."""

    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SOFT_BOUNCE = "soft_bounce"
    COMPLAINED = "complained"
    FAILED = "failed"

    DEFERRED = "deferred"
    OPENED = "opened"
    CLICKED = "clicked"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One statement of a provider about one attempt."""

    receipt_id: str  # the provider's id of this statement, or one built from its content: repeats are equal
    kind: ReceiptKind
    reference: str | None = None  # our "att_…" when the provider gives it back
    provider_message_id: str | None = None
    recipient: str | None = None
    occurred_at: datetime | None = None
    detail: str = ""  # the provider's code and words, at most 500 characters


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """A receipt as it came in. ``url``: the public one, with query; header names in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


class UnsupportedMessageError(ValueError):
    """The package cannot express this message; the text is shown to the sender and names no recipient."""


class InvalidReceiptSignatureError(Exception):
    """The receipt does not carry a valid signature: nothing of it may be believed."""


C = TypeVar("C", bound=Credentials)
Q = TypeVar("Q")  # the wire's request type
A = TypeVar("A")  # the wire's answer type


@dataclass(frozen=True, slots=True)
class Package(Generic[C, Q, A]):
    """A provider package. ``idempotent``: a repeat with the same reference is accepted at most once.

    ``build`` raises :class:`UnsendableError`; ``classify`` never raises and never guesses: an answer that is
    not the documented success nor a documented refusal is ``Unknown``. ``read_receipts`` raises
    :class:`ForgedReceiptError`, and returns an empty list for a genuine statement that means nothing to us.
    """

    name: str  # "provider-resend"
    title: str  # "Resend"
    channels: tuple[Channel, ...]
    credentials: type[C]
    transport: TransportKind
    build: Callable[[OutboundMessage, C], Q]
    classify: Callable[[A], Outcome]
    idempotent: bool = False
    concurrency: int | None = None  # calls at once where the provider's settings name no number; None: the worker's
    parse_receipts: Callable[[ReceiptRequest, C], list[Receipt]] | None = None


AnyPackage = Package[Any, Any, Any]
