"""The provider contract, version 2: a package is a value made of pure functions. No sockets, no clock, no settings.

A package says how a message becomes a request of one *transport* (HTTP, SMTP, the sandbox), how that transport's
response becomes an :data:`~sluice.model.outcome.Outcome`, and how the provider's webhook requests are verified and
read. docs/adding-a-provider.md is the guide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from sluice.model.message import Channel, ChatMessage, Email, Push, Sms, Whatsapp
from sluice.model.outcome import AuthFailed, Declined, Divided, Outcome, ProviderFault
from sluice.model.reasons import Reason
from sluice.model.state import EventType


class Credentials(BaseModel):
    """Base of every package's credentials: unknown fields are refused, secrets are ``SecretStr`` and never blank."""

    # A validation error is shown to the caller and logged: it must not repeat the value it complains about.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    @field_validator("*", mode="after")
    @classmethod
    def _not_blank(cls, value: Any) -> Any:
        # An emptied form field would otherwise be a key with which anyone can sign.
        if isinstance(value, SecretStr) and not value.get_secret_value().strip():
            raise ValueError("must not be blank")
        return value


class TransportKind(StrEnum):
    """The protocol of a request; the worker has one transport for each."""

    HTTP = "http"
    SMTP = "smtp"
    SMPP = "smpp"
    SANDBOX = "sandbox"


# Sending ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """One delivery, as one attempt sends it."""

    content: Email | Sms | Whatsapp | ChatMessage | Push
    recipient: str  # number, chat id or device token; for e-mail the first ``to``, the rest is in the content
    reference: str  # "att_…": unique per attempt, and the same in a same-key retry
    message_id: str  # public id, "msg_…", the same over all attempts
    created_at: datetime  # when the message was accepted; the Date of a mail, so that retries are identical
    attempted_at: datetime  # the only clock of ``build``: dated signatures
    attachments: Mapping[str, bytes] = field(default_factory=dict)  # content by sha256
    callback_url: str | None = None  # where receipts should go; None without a public address
    access_token: SecretStr | None = None  # of a package with a token exchange
    # E-mail, of a divided delivery: the bare addresses that still have to get the mail; None: all of the content. The
    # content of a package without ``separate_envelope`` names no other recipients.
    envelope: tuple[str, ...] | None = None


class UnsupportedMessageError(ValueError):
    """The package cannot express this message; the text is shown to the sender and names no recipient."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and the time from which the provider refuses it."""

    value: SecretStr
    expires_at: datetime


# Webhooks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request on the receipt URL. ``url``: the public one, with query; header names in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


class InvalidReceiptSignatureError(Exception):
    """The request does not carry a valid signature: nothing of it may be believed."""


RECEIPT_TYPES = frozenset(
    {
        *(EventType.SENT, EventType.DELIVERED, EventType.BOUNCED, EventType.SOFT_BOUNCE, EventType.COMPLAINED),
        *(EventType.FAILED, EventType.DEFERRED, EventType.OPENED, EventType.CLICKED, EventType.READ),
    }
)
"""The event types that a receipt may have."""


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """A provider's statement about one attempt, found by our reference or else by the provider's message id."""

    receipt_id: str  # the provider's id of this statement, or one built from its content: repeats are equal
    type: EventType  # one of RECEIPT_TYPES
    reference: str | None = None  # our "att_…" when the provider returns it
    provider_message_id: str | None = None
    recipient: str | None = None
    occurred_at: datetime | None = None
    reason: Reason | None = None  # of a negative statement
    detail: str = ""  # the provider's code and words, redacted, at most 500 characters
    payload: bytes = b""  # this statement's part of a batch; empty: the whole request


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message from a recipient to one of the account's senders."""

    inbound_id: str  # the provider's id: repeats are equal
    sender: str
    text: str = ""
    recipient: str | None = None  # the account's sender that was written to
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OptOut:
    """A recipient refuses further messages of this account."""

    recipient: str
    reason: Reason = Reason.UNSUBSCRIBED
    occurred_at: datetime | None = None


WebhookEvent = DeliveryReceipt | InboundMessage | OptOut


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """A response that the provider expects word for word, for example to a handshake."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class WebhookReply:
    """What follows from a webhook request.

    ``answer``: the response, 204 without a body when None. ``fetch``: a URL that has to be read first (a signing
    certificate, a confirmation); the endpoint reads it once, if it matches the package's ``webhook_urls``, and calls
    ``parse_webhook`` again with its content. ``cacheable``: that content does not change, so it is kept for later
    requests once one was verified with it. ``token``: what the provider signed in place of the body; the endpoint
    accepts it with one body only, so that no other can be sent under a signature that was seen.
    """

    events: Sequence[WebhookEvent] = ()
    answer: WebhookAnswer | None = None
    fetch: str | None = None
    cacheable: bool = False
    token: str | None = None

    @property
    def receipts(self) -> list[DeliveryReceipt]:
        """The events that are receipts."""
        return [event for event in self.events if isinstance(event, DeliveryReceipt)]


# The package -----------------------------------------------------------------------------------------------


class ReceiptSource(StrEnum):
    """How a provider's receipts arrive."""

    NONE = "none"
    WEBHOOK = "webhook"
    SESSION = "session"  # on the connection that the transport keeps open


C = TypeVar("C", bound=Credentials)
Q = TypeVar("Q")  # the transport's request type
A = TypeVar("A")  # the transport's response type


@dataclass(frozen=True, slots=True)
class TokenExchange(Generic[C, Q, A]):
    """How an account's credentials become an access token: a request over the package's own transport, and its answer.

    Nothing of a message is sent in an exchange, so a refused one is never an unknown outcome.
    """

    build_token_request: Callable[[C, datetime], Q]  # credentials, now
    read_token: Callable[[A, datetime], Token | AuthFailed | ProviderFault]  # response, now


@dataclass(frozen=True, slots=True)
class Package(Generic[C, Q, A]):
    """A provider package: its functions, and facts about the provider as data.

    ``build`` raises :class:`UnsupportedMessageError` or
    :class:`~sluice.model.address.InvalidAddressError`. ``classify`` never raises and never guesses: a response that is
    neither the documented success nor a documented refusal is ``Unknown``. ``parse_webhook(request, credentials,
    fetched)`` raises :class:`InvalidReceiptSignatureError`, and returns no events for a genuine request that says
    nothing about a message; ``fetched`` is the content of fetched URLs by URL.
    """

    name: str  # "provider-resend"
    title: str  # "Resend"
    channels: tuple[Channel, ...]
    credentials: type[C]
    transport: TransportKind
    build: Callable[[OutboundMessage, C], Q]
    classify: Callable[[A], Outcome | Divided]
    # Whether the account's settings name the sender that was refused: then it is the account's fault. None: they do
    # where the request is the same without the message's sender, see ``sluice.transports.provider_call``.
    names_sender: Callable[[C, Declined], bool] | None = None
    parse_webhook: Callable[[WebhookRequest, C, Mapping[str, bytes]], WebhookReply] | None = None
    # A webhook request to this URL that says nothing about a message, signed at this time as the provider would do it.
    # Raises InvalidReceiptSignatureError when the account lacks what signs. None: only the provider can sign.
    sample: Callable[[str, C, datetime], WebhookRequest] | None = None
    token: TokenExchange[C, Q, A] | None = None

    # Facts
    docs_url: str = ""  # the provider's documentation of the API
    receipts: ReceiptSource = ReceiptSource.NONE
    idempotent: bool = False  # the provider accepts a retry under the same reference at most once
    max_recipients: int = 1  # of one message
    supports_attachments: bool = False
    supports_html: bool = False
    separate_envelope: bool = False  # the recipients of a mail are given apart from its header
    segments: bool = False  # long texts are sent, and priced, in several parts
    concurrency: int | None = None  # calls at once where the provider's settings name no number; None: the worker's
    # Seconds that the response of an HTTP call may take, where the provider needs longer than SLUICE_HTTP_TIMEOUT: an
    # earlier end is an unknown outcome of a message that is sent.
    http_timeout: Callable[[C], float] | None = None
    signs_url: bool = False  # the signature of a receipt covers the URL that the provider called
    # Patterns (whole match) of the URLs that a webhook reply may fetch, besides those below the account's own base URL.
    webhook_urls: tuple[str, ...] = ()


AnyPackage = Package[Any, Any, Any]
