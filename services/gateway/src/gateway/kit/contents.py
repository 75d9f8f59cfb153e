"""The content of a message as documents: harmless in a browser, whatever its sender wrote.

HTML is never part of a page of ours. It is a document of its own, which may run nothing, load nothing and go nowhere;
the policy holds when it is opened directly, too.
"""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import orjson
from fastapi import Query, Response
from pydantic import BaseModel, Field

from gateway.errors import NotFound, ValidationFailed
from sluice.model.address import InvalidAddressError
from sluice.model.message import Attachment, Channel, ChatMessage, Email, Push, Sms, Whatsapp, content_adapter
from sluice.providers.contract import UnsupportedMessageError
from sluice.providers.kit.mime import write_mail

MessageContent = Email | Sms | Whatsapp | ChatMessage | Push

_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src {images}; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'self'"
)
ImagesQuery = Annotated[bool, Query(description="HTML may load images over HTTPS: its sender may see that.")]

_LINK = re.compile(r"""\bhref\s*=\s*(?:"([^"]{1,4096})"|'([^']{1,4096})'|([^\s>"']{1,4096}))""", re.IGNORECASE)
_MAX_LINKS = 1_000


class ContentPart(StrEnum):
    """A part of a content as a document: ``raw`` is the mail as it is sent (RFC 5322), without bcc."""

    HTML = "html"
    TEXT = "text"
    RAW = "raw"


class AttachmentResponse(BaseModel):
    """A file of a mail. ``number``: its place, from 1, by which it is downloaded."""

    number: int
    filename: str
    content_type: str
    size: int
    content_id: str | None


class ContentResponse(BaseModel):
    """The content of a message.

    ``parts``: what can be had as a document. ``links``: what the HTML refers to; ``other``: the fields that only this
    channel has, such as the template of WhatsApp.
    """

    channel: Channel
    from_: str | None = Field(serialization_alias="from")
    to: list[str]
    cc: list[str]
    bcc: list[str]
    reply_to: str | None
    subject: str | None
    text: str | None
    parts: list[ContentPart]
    links: list[str]
    attachments: list[AttachmentResponse]
    other: dict[str, Any]


class Stored(Protocol):
    """What has a content: a message, or a captured one."""

    @property
    def channel(self) -> str: ...

    @property
    def content(self) -> str:
        """JSON of the content; ``{}`` once it is erased."""
        ...


def read_content(of: Stored) -> MessageContent:
    """The stored content.

    Raises:
        NotFound: it was erased.
    """
    if of.content == "{}":
        raise NotFound("The content of this message was erased.")
    # A captured content has no field with its default, the channel included.
    content: MessageContent = content_adapter.validate_python({"channel": of.channel, **orjson.loads(of.content)})
    return content


def show_content(content: MessageContent, recipients: list[str]) -> ContentResponse:
    """The content as JSON; ``recipients``: of a channel whose content names none."""
    mail = content if isinstance(content, Email) else None
    known = {"channel", "sender", "to", "cc", "bcc", "reply_to", "subject", "title", "html", "text", "attachments"}
    return ContentResponse(
        channel=Channel(content.channel),
        from_=getattr(content, "sender", None),
        to=list(mail.to) if mail else recipients,
        cc=list(mail.cc) if mail else [],
        bcc=list(mail.bcc) if mail else [],
        reply_to=mail.reply_to if mail else None,
        subject=mail.subject if mail else getattr(content, "title", None),
        text=content.text,
        parts=parts_of(content),
        links=links_of(mail.html or "") if mail else [],
        attachments=[_attachment(number, file) for number, file in enumerate(mail.attachments, 1)] if mail else [],
        other=content.model_dump(exclude=known, exclude_defaults=True),
    )


def _attachment(number: int, file: Attachment) -> AttachmentResponse:
    return AttachmentResponse(
        number=number,
        filename=file.filename,
        content_type=file.content_type,
        size=file.size,
        content_id=file.content_id,
    )


def parts_of(content: MessageContent) -> list[ContentPart]:
    """The parts that the content has."""
    mail = content if isinstance(content, Email) else None
    found = {ContentPart.HTML: mail and mail.html, ContentPart.TEXT: content.text, ContentPart.RAW: mail}
    return [part for part, value in found.items() if value is not None]


def links_of(text: str) -> list[str]:
    """The targets of links in HTML, each once, in order."""
    found: dict[str, None] = {}
    for match in _LINK.finditer(text):
        found[html.unescape(next(group for group in match.groups() if group is not None)).strip()] = None
        if len(found) == _MAX_LINKS:
            break
    return list(found)


async def document(
    content: MessageContent,
    part: ContentPart,
    *,
    message_id: str,
    date: datetime,
    files: Mapping[str, bytes],
    images: bool,
) -> Response:
    """One part as a response of its own. ``images``: HTML may load images from anywhere over HTTPS.

    Raises:
        NotFound: the content has no such part, or a file of it is gone.
        ValidationFailed: the content is none that can be a mail.
    """
    if part not in parts_of(content):
        raise NotFound(f"The message has no part {part.value}.")
    if part is ContentPart.RAW and isinstance(content, Email):
        if any(file.sha256 not in files for file in content.attachments):
            raise NotFound("An attachment of this message was deleted.")
        try:
            # A large mail takes longer than the event loop can wait.
            body = await asyncio.to_thread(write_mail, content, message_id=message_id, date=date, contents=files)
        except (UnsupportedMessageError, InvalidAddressError) as error:
            raise ValidationFailed(f"part: the content is no mail: {error}", field="part") from None
        return _response(body, "message/rfc822", filename=f"{message_id}.eml")
    if part is ContentPart.HTML and isinstance(content, Email):
        return _response((content.html or "").encode(), "text/html; charset=utf-8", images=images)
    return _response((content.text or "").encode(), "text/plain; charset=utf-8")


def find_file(content: MessageContent, number: int) -> Attachment:
    """The attachment with this number.

    Raises:
        NotFound: there is none.
    """
    files = content.attachments if isinstance(content, Email) else ()
    if not 1 <= number <= len(files):
        raise NotFound("The message has no such attachment.")
    return files[number - 1]


def download(file: Attachment, body: bytes | None) -> Response:
    """An attachment as a file to save: no browser shows it.

    Raises:
        NotFound: it was deleted.
    """
    if body is None:
        raise NotFound("The attachment was deleted.")
    return _response(body, "application/octet-stream", filename=file.filename)


def _response(body: bytes, media_type: str, *, images: bool = False, filename: str | None = None) -> Response:
    headers = {
        "Content-Security-Policy": _POLICY.format(images="data: https:" if images else "data:"),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    if filename is not None:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
    return Response(body, media_type=media_type, headers=headers)


_HEADERS = {
    "Content-Security-Policy": "It may run nothing, load nothing and go nowhere, also when it is opened directly.",
    "X-Content-Type-Options": "It is what its type says.",
    "Referrer-Policy": "No other host sees the address.",
    "Cross-Origin-Resource-Policy": "No other page contains it.",
    "Cache-Control": "No proxy keeps it.",
    "Content-Disposition": "A file to save.",
}


def documents_of(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The successful response of a route that answers with a document."""
    return {
        200: {
            "description": "The document.",
            "content": {name: {"schema": {"type": "string"}} for name in media_types},
            "headers": {name: {"schema": {"type": "string"}, "description": text} for name, text in _HEADERS.items()},
        }
    }
