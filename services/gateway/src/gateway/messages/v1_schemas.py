"""The body of ``POST /v1/messages/channel``, one model a channel, and what it becomes in the record."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import mimetypes
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    TypeAdapter,
    model_validator,
)

from gateway.errors import Invalid
from sluice.model.ids import milliseconds_of, sibling, uuid7
from sluice.model.message import Channel, Class, encode_content
from sluice.store.ingest import NewDelivery, NewMessage

MOST_RECIPIENTS = 1000
LIFETIME = {Class.URGENT: timedelta(minutes=10), Class.STANDARD: timedelta(hours=72), Class.ONCE: timedelta(hours=72)}
LONGEST_LIFETIME = timedelta(days=30)

# Linear patterns: no repetition inside a repetition, so that no text can make them slow.
_ADDRESS = re.compile(r"[^\s@<>\"(),:;\\\x00-\x1f\x7f]{1,64}@[^\s@<>\"(),:;\\\x00-\x1f\x7f]{1,253}")
_NAMED_ADDRESS = re.compile(r"[^<>\x00-\x1f\x7f]{0,200}<([^<>]{3,320})>")
_E164 = re.compile(r"\+[1-9][0-9]{5,14}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text) or ".." in text.rpartition("@")[2] or text.endswith("."):
        raise ValueError("is not an e-mail address")
    return text


def _named_address(text: str) -> str:
    named = _NAMED_ADDRESS.fullmatch(_one_line(text))
    _address(named[1] if named else text)
    return text


def _number(text: str) -> str:
    if not _E164.fullmatch(text):
        raise ValueError("is not a phone number in E.164 format, such as +14155551234")
    return text


def _one_line(text: str) -> str:
    if text.isprintable():  # nearly always, and told far sooner than by a pattern
        return text
    if _CONTROL.search(text):
        raise ValueError("must not contain line breaks or control characters")
    return _storable(text)


def _storable(text: str) -> str:
    if "\x00" in text or (not text.isascii() and _SURROGATE.search(text)):
        raise ValueError("contains a character that is no text (NUL or half of a surrogate pair)")
    return text


def _listed(value: Any) -> Any:
    """A single recipient may be written without the list."""
    return [value] if isinstance(value, str) else value


def _nothing() -> Any:
    """An empty list as default: made anew each time, where a literal one would be copied deep, which costs far more."""
    return Field(default_factory=list, json_schema_extra={"default": []})


Address = Annotated[str, Field(max_length=320), AfterValidator(_address)]
NamedAddress = Annotated[str, Field(max_length=520), AfterValidator(_named_address)]
Number = Annotated[str, Field(max_length=16), AfterValidator(_number)]
Line = Annotated[str, Field(min_length=1, max_length=998), AfterValidator(_one_line)]
Text = Annotated[str, Field(min_length=1, max_length=5_000_000), AfterValidator(_storable)]
Short = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_one_line)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: Annotated[list[Short], Field(max_length=50)] = _nothing()
    idempotency_key: Short | None = None
    preferred_provider: Short | None = None
    send_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    metadata: dict[str, Any] | None = None
    class_: Class = Field(Class.STANDARD, alias="class")

    @model_validator(mode="after")
    def _times_are_in_order(self) -> _Body:
        if self.send_at and self.expires_at and self.expires_at <= self.send_at:
            raise ValueError("expires_at must be later than send_at")
        return self


class AttachmentBody(BaseModel):
    """A file in the request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filename: Short
    content: str
    content_type: Short | None = None
    encoding: Literal["base64", "utf-8"] = "base64"

    @model_validator(mode="after")
    def _content_decodes(self) -> AttachmentBody:
        self.decoded()
        return self

    def decoded(self) -> bytes:
        """The file's bytes."""
        if self.encoding == "utf-8":
            return _storable(self.content).encode()
        try:
            return base64.b64decode(self.content, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("content is not base64") from None


class EmailBody(_Body):
    """``channel: email``."""

    channel: Literal["email"]
    from_: NamedAddress | None = Field(None, alias="from")
    to: Annotated[list[NamedAddress], Field(min_length=1, max_length=MOST_RECIPIENTS), BeforeValidator(_listed)]
    cc: Annotated[list[NamedAddress], Field(max_length=MOST_RECIPIENTS), BeforeValidator(_listed)] = _nothing()
    bcc: Annotated[list[NamedAddress], Field(max_length=MOST_RECIPIENTS), BeforeValidator(_listed)] = _nothing()
    reply_to: NamedAddress | None = None
    subject: Line
    html: Text | None = None
    text: Text | None = None
    attachments: Annotated[list[AttachmentBody], Field(max_length=50)] = _nothing()

    @model_validator(mode="after")
    def _has_content(self) -> EmailBody:
        if self.html is None and self.text is None:
            raise ValueError("html or text is required")
        return self


class SmsBody(_Body):
    """``channel: sms``."""

    channel: Literal["sms"]
    from_: Short = Field(alias="from")
    to: Annotated[list[Number], Field(min_length=1, max_length=MOST_RECIPIENTS), BeforeValidator(_listed)]
    text: Text


class WhatsappOptions(BaseModel):
    """``channel_options`` of WhatsApp."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template_name: Short
    template_language: Short
    template_params: Annotated[list[Text], Field(max_length=100)] = _nothing()


class WhatsappBody(_Body):
    """``channel: whatsapp``: a template, or text inside the 24-hour window."""

    channel: Literal["whatsapp"]
    to: Annotated[list[Number], Field(min_length=1, max_length=MOST_RECIPIENTS), BeforeValidator(_listed)]
    channel_options: WhatsappOptions | None = None
    text: Text | None = None

    @model_validator(mode="after")
    def _has_content(self) -> WhatsappBody:
        if (self.channel_options is None) == (self.text is None):
            raise ValueError("channel_options (a template) or text is required, not both")
        return self


class ChatBody(_Body):
    """``channel: telegram`` and ``signal``."""

    channel: Literal["telegram", "signal"]
    from_: Short | None = Field(None, alias="from")
    to: Annotated[list[Short], Field(min_length=1, max_length=MOST_RECIPIENTS), BeforeValidator(_listed)]
    text: Text


class PushOptions(BaseModel):
    """``channel_options`` of push."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: dict[str, str] = {}
    image: Short | None = None


class PushBody(_Body):
    """``channel: push``."""

    channel: Literal["push"]
    to: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_one_line)]],
        Field(min_length=1, max_length=MOST_RECIPIENTS),
        BeforeValidator(_listed),
    ]
    subject: Line | None = None
    text: Text | None = None
    channel_options: PushOptions = PushOptions()

    @model_validator(mode="after")
    def _has_content(self) -> PushBody:
        if self.subject is None and self.text is None and not self.channel_options.data:
            raise ValueError("subject, text or channel_options.data is required")
        return self


Body = EmailBody | SmsBody | WhatsappBody | ChatBody | PushBody
_ADAPTER: TypeAdapter[Body] = TypeAdapter(Annotated[Body, Discriminator("channel")])


def parse(body: bytes) -> tuple[Body, dict[str, Any]]:
    """The validated request, and the document that it is.

    Raises:
        ValidationError: see :func:`gateway.errors.invalid`.
        Invalid: see :func:`document_of`.
    """
    return _ADAPTER.validate_json(body), document_of(body)


def document_of(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes.

    Raises:
        Invalid: another reader could find something else in them, or no number where one stands.
    """
    try:
        document: dict[str, Any] = _STRICT.decode(body.decode())
    except ValueError as error:
        raise Invalid(str(error)) from None
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the body has the name {twice[:100]!r} more than once in one object")
    return found


def _whole(digits: str) -> int:
    if not -(1 << 63) <= int(digits) < 1 << 64:
        raise ValueError(f"the body has an integer that does not fit into 64 bits: {digits[:40]}")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the body has a number that is none: {text[:40]}")
    return number


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_int=_whole, parse_float=_finite, parse_constant=_finite)


def fingerprint(document: Mapping[str, Any]) -> bytes:
    """SHA-256 of what the request means: white space, order of keys and the idempotency key itself do not count."""
    means = {name: value for name, value in document.items() if name != "idempotency_key"}
    return hashlib.sha256(orjson.dumps(means, option=orjson.OPT_SORT_KEYS)).digest()


def to_record(
    body: Body,
    *,
    project_id: UUID,
    sender: str | None,
    sandbox: bool,
    key: str | None,
    fingerprint: bytes,
    preferred: UUID | None,
    now: datetime,
    redrive: timedelta,
) -> NewMessage:
    """The message that a request becomes. ``sender`` is the project's default, used where the request names none."""
    message_id = uuid7(milliseconds_of(now))
    content, files = _CONTENT[type(body)](body, sender)
    return NewMessage(
        id=message_id,
        project_id=project_id,
        channel=Channel(body.channel),
        class_=body.class_,
        sender=content.get("sender"),
        content=encode_content({"channel": body.channel, **content}),
        deliveries=tuple(NewDelivery(sibling(message_id), recipient) for recipient in _addressees(body)),
        created_at=now,
        expires_at=body.expires_at or (body.send_at or now) + LIFETIME[body.class_],
        due_at=body.send_at or now + redrive,
        send_at=body.send_at,
        tags=tuple(body.tags),
        metadata=None if body.metadata is None else orjson.dumps(body.metadata).decode(),
        preferred=preferred,
        sandbox=sandbox,
        idempotency_key=key,
        fingerprint=fingerprint,
        attachments=files,
    )


def _addressees(body: Body) -> list[str]:
    """A mail is one envelope and so one delivery; everywhere else each recipient gets one."""
    return [", ".join(body.to)[:2000]] if isinstance(body, EmailBody) else list(dict.fromkeys(body.to))


# Fields of the channel's content in :mod:`sluice.model.message`, and the files that it refers to by their hash.
_Content = tuple[dict[str, Any], tuple[tuple[str, bytes], ...]]


def _email(body: EmailBody, sender: str | None) -> _Content:
    files = [(attachment, attachment.decoded()) for attachment in body.attachments]
    hashed = [(attachment, content, hashlib.sha256(content).hexdigest()) for attachment, content in files]
    return {
        "sender": body.from_ or sender,
        "to": body.to,
        "cc": body.cc,
        "bcc": body.bcc,
        "reply_to": body.reply_to,
        "subject": body.subject,
        "html": body.html,
        "text": body.text,
        "attachments": [
            {
                "filename": attachment.filename,
                "content_type": attachment.content_type or _guess(attachment.filename),
                "sha256": digest,
                "size": len(content),
            }
            for attachment, content, digest in hashed
        ],
    }, tuple((digest, content) for _, content, digest in hashed)


def _guess(filename: str) -> str:
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def _text(body: SmsBody | ChatBody, _: str | None) -> _Content:
    return {"sender": body.from_, "text": body.text}, ()


def _whatsapp(body: WhatsappBody, _: str | None) -> _Content:
    options = body.channel_options
    return {"text": body.text} if options is None else options.model_dump(), ()


def _push(body: PushBody, _: str | None) -> _Content:
    options = body.channel_options
    return {"title": body.subject, "text": body.text, "image": options.image, "data": options.data}, ()


_CONTENT: dict[type[Any], Callable[[Any, str | None], _Content]] = {
    EmailBody: _email,
    SmsBody: _text,
    WhatsappBody: _whatsapp,
    ChatBody: _text,
    PushBody: _push,
}
