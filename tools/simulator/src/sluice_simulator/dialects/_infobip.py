"""The form of a request to Infobip's SMS API, version 3: what is not in it is refused."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class _Part(BaseModel, extra="forbid", strict=True):
    """A part of a request: other properties are refused."""


class Destination(_Part):
    """One number, and the id that the caller gives to its message."""

    to: str = Field(min_length=1, max_length=64)
    messageId: str | None = Field(default=None, max_length=200)
    networkId: int | None = None


class Content(_Part):
    """A text; binary messages are not simulated."""

    text: str
    transliteration: str | None = None
    language: dict[str, str] | None = None


class Delivery(_Part):
    """Where the receipts of a message go."""

    url: str | None = None
    intermediateReport: bool = False
    notify: bool = True


class Webhooks(_Part):
    """The receipts of a message and their form."""

    delivery: Delivery = Delivery()
    contentType: Literal["application/json", "application/xml"] = "application/json"
    callbackData: str | None = Field(default=None, max_length=4000)


class Message(_Part):
    """One text to one or several numbers."""

    sender: str | None = None
    destinations: list[Destination] = Field(min_length=1)
    content: Content
    options: dict[str, Any] | None = None
    webhooks: Webhooks = Webhooks()


class Body(_Part):
    """The request of version 3."""

    messages: list[Message] = Field(min_length=1)
    options: dict[str, Any] | None = None
