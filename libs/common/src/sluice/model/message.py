"""The nouns of a message: channel, class, and the content of each channel as it is stored and sent."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Channel(StrEnum):
    """The road a message takes; never changed by failover."""

    EMAIL = "email"
    SMS = "sms"
    WHATSAPP = "whatsapp"
    TELEGRAM = "telegram"
    SIGNAL = "signal"
    PUSH = "push"


class DeliveryClass(StrEnum):
    """What may be done about an ``Unknown`` outcome."""

    URGENT = "urgent"
    STANDARD = "standard"
    ONCE = "once"


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Attachment(_Content):
    """A reference to bytes that are stored once, by content hash."""

    filename: str
    content_type: str
    sha256: str  # lower-case hex, the key of the stored bytes
    size: int  # bytes


class Email(_Content):
    """One envelope: everybody in ``to``, ``cc`` and ``bcc`` gets the same mail in one transaction."""

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


class Sms(_Content):
    """A text to one number; the number is the delivery's recipient."""

    channel: Literal["sms"] = "sms"
    sender: str
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
    """A notification to one device token or topic."""

    channel: Literal["push"] = "push"
    title: str | None = None
    text: str | None = None
    image: str | None = None
    data: dict[str, str] = Field(default_factory=dict)


def encode_content_unchecked(fields: Mapping[str, object]) -> str:
    """The JSON of a content with these fields, which are not looked at; what is empty reads as the default.

    For those who make one for each message: making a model and dumping it costs four times as much.
    """
    return orjson.dumps({name: value for name, value in fields.items() if value}).decode()


Content = Annotated[Email | Sms | Whatsapp | ChatMessage | Push, Field(discriminator="channel")]
content_adapter: TypeAdapter[Email | Sms | Whatsapp | ChatMessage | Push] = TypeAdapter(Content)
