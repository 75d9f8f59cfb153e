"""Channels, delivery classes, and the content of each channel as it is stored and sent."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Channel(StrEnum):
    """The kind of message; a delivery never changes its channel."""

    EMAIL = "email"
    SMS = "sms"
    WHATSAPP = "whatsapp"
    TELEGRAM = "telegram"
    SIGNAL = "signal"
    PUSH = "push"


class DeliveryClass(StrEnum):
    """The rule for an attempt with an unknown outcome: retry at once, wait for a receipt first, or never retry."""

    URGENT = "urgent"
    STANDARD = "standard"
    ONCE = "once"


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Attachment(_Content):
    """A reference to a file that is stored once per project and content hash."""

    filename: str
    content_type: str  # with its parameters, see sluice.model.media_type
    sha256: str  # lower-case hex, the key of the stored bytes
    size: int  # bytes
    content_id: str | None = None  # of an inline file, to which the HTML refers as "cid:…"; without angle brackets


class Email(_Content):
    """One envelope: all recipients in ``to``, ``cc`` and ``bcc`` receive the same mail in one mail transaction."""

    channel: Literal["email"] = "email"
    sender: str  # "Name <address>" or a bare address
    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | None = None
    subject: str
    html: str | None = None
    text: str | None = None
    attachments: tuple[Attachment, ...] = ()
    unsubscribe_url: str | None = None  # with which the recipient unsubscribes in one click (RFC 8058)


class Sms(_Content):
    """A text to one number; the number is the delivery's recipient. ``sender``: None for that of the account."""

    channel: Literal["sms"] = "sms"
    sender: str | None = None
    text: str


class Whatsapp(_Content):
    """A template, or free text inside the 24-hour window."""

    channel: Literal["whatsapp"] = "whatsapp"
    template_name: str | None = None
    template_language: str | None = None
    template_params: tuple[str, ...] = ()
    text: str | None = None


class ChatMessage(_Content):
    """A text to a chat id (telegram) or a number (signal)."""

    channel: Literal["telegram", "signal"]
    sender: str | None = None
    text: str


class Push(_Content):
    """A notification to one device token or topic.

    ``platform``: what only one kind of device gets, by the provider's name of the kind (FCM: android, apns, webpush).
    """

    channel: Literal["push"] = "push"
    title: str | None = None
    text: str | None = None
    image: str | None = None
    data: dict[str, str] = Field(default_factory=dict)
    platform: dict[str, dict[str, Any]] = Field(default_factory=dict)


def encode_content_unchecked(fields: Mapping[str, object]) -> str:
    """The JSON of a content with these fields, without validation; empty fields are omitted and read as the default.

    For the hot path: creating and dumping a model costs four times as much.
    """
    return orjson.dumps({name: value for name, value in fields.items() if value}).decode()


Content = Annotated[Email | Sms | Whatsapp | ChatMessage | Push, Field(discriminator="channel")]
content_adapter: TypeAdapter[Email | Sms | Whatsapp | ChatMessage | Push] = TypeAdapter(Content)
