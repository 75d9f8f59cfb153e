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

from gateway.errors import ValidationFailed
from sluice.model.ids import milliseconds_of, uuid7, uuid7_like
from sluice.model.message import Channel, DeliveryClass, encode_content_unchecked
from sluice.store.ingest import NewDelivery, NewMessage

MAX_RECIPIENTS = 1000
DEFAULT_LIFETIME = {
    DeliveryClass.URGENT: timedelta(minutes=10),
    DeliveryClass.STANDARD: timedelta(hours=72),
    DeliveryClass.ONCE: timedelta(hours=72),
}
MAX_LIFETIME = timedelta(days=30)

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


def as_list(value: Any) -> Any:
    """A single recipient may be written without the list."""
    return [value] if isinstance(value, str) else value


def empty_list() -> Any:
    """An empty list as default: made anew each time, where a literal one would be copied deep, which costs far more."""
    return Field(default_factory=list, json_schema_extra={"default": []})


Address = Annotated[str, Field(max_length=320), AfterValidator(_address)]
NamedAddress = Annotated[str, Field(max_length=520), AfterValidator(_named_address)]
Number = Annotated[str, Field(max_length=16), AfterValidator(_number)]
Line = Annotated[str, Field(min_length=1, max_length=998), AfterValidator(_one_line)]
Text = Annotated[str, Field(min_length=1, max_length=5_000_000), AfterValidator(_storable)]
Short = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_one_line)]


class _SendRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: Annotated[list[Short], Field(max_length=50)] = empty_list()
    idempotency_key: Short | None = None
    preferred_provider: Short | None = None
    send_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    metadata: dict[str, Any] | None = None
    delivery_class: DeliveryClass = Field(DeliveryClass.STANDARD, alias="class")

    @model_validator(mode="after")
    def _times_are_in_order(self) -> _SendRequest:
        if self.send_at and self.expires_at and self.expires_at <= self.send_at:
            raise ValueError("expires_at must be later than send_at")
        return self


class AttachmentRequest(BaseModel):
    """A file in the request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filename: Short
    content: str
    content_type: Short | None = None
    encoding: Literal["base64", "utf-8"] = "base64"

    @model_validator(mode="after")
    def _content_decodes(self) -> AttachmentRequest:
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


class EmailRequest(_SendRequest):
    """``channel: email``."""

    channel: Literal["email"]
    from_: NamedAddress | None = Field(None, alias="from")
    to: Annotated[list[NamedAddress], Field(min_length=1, max_length=MAX_RECIPIENTS), BeforeValidator(as_list)]
    cc: Annotated[list[NamedAddress], Field(max_length=MAX_RECIPIENTS), BeforeValidator(as_list)] = empty_list()
    bcc: Annotated[list[NamedAddress], Field(max_length=MAX_RECIPIENTS), BeforeValidator(as_list)] = empty_list()
    reply_to: NamedAddress | None = None
    subject: Line
    html: Text | None = None
    text: Text | None = None
    attachments: Annotated[list[AttachmentRequest], Field(max_length=50)] = empty_list()

    @model_validator(mode="after")
    def _has_content(self) -> EmailRequest:
        if self.html is None and self.text is None:
            raise ValueError("html or text is required")
        return self


class SmsRequest(_SendRequest):
    """``channel: sms``."""

    channel: Literal["sms"]
    from_: Short = Field(alias="from")
    to: Annotated[list[Number], Field(min_length=1, max_length=MAX_RECIPIENTS), BeforeValidator(as_list)]
    text: Text


class WhatsappOptions(BaseModel):
    """``channel_options`` of WhatsApp."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template_name: Short
    template_language: Short
    template_params: Annotated[list[Text], Field(max_length=100)] = empty_list()


class WhatsappRequest(_SendRequest):
    """``channel: whatsapp``: a template, or text inside the 24-hour window."""

    channel: Literal["whatsapp"]
    to: Annotated[list[Number], Field(min_length=1, max_length=MAX_RECIPIENTS), BeforeValidator(as_list)]
    channel_options: WhatsappOptions | None = None
    text: Text | None = None

    @model_validator(mode="after")
    def _has_content(self) -> WhatsappRequest:
        if (self.channel_options is None) == (self.text is None):
            raise ValueError("channel_options (a template) or text is required, not both")
        return self


class ChatRequest(_SendRequest):
    """``channel: telegram`` and ``signal``."""

    channel: Literal["telegram", "signal"]
    from_: Short | None = Field(None, alias="from")
    to: Annotated[list[Short], Field(min_length=1, max_length=MAX_RECIPIENTS), BeforeValidator(as_list)]
    text: Text


class PushOptions(BaseModel):
    """``channel_options`` of push."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: dict[str, str] = {}
    image: Short | None = None


class PushRequest(_SendRequest):
    """``channel: push``."""

    channel: Literal["push"]
    to: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_one_line)]],
        Field(min_length=1, max_length=MAX_RECIPIENTS),
        BeforeValidator(as_list),
    ]
    subject: Line | None = None
    text: Text | None = None
    channel_options: PushOptions = PushOptions()

    @model_validator(mode="after")
    def _has_content(self) -> PushRequest:
        if self.subject is None and self.text is None and not self.channel_options.data:
            raise ValueError("subject, text or channel_options.data is required")
        return self


SendRequest = EmailRequest | SmsRequest | WhatsappRequest | ChatRequest | PushRequest
_ADAPTER: TypeAdapter[SendRequest] = TypeAdapter(Annotated[SendRequest, Discriminator("channel")])


def parse(body: bytes) -> tuple[SendRequest, dict[str, Any]]:
    """The validated request, and the document that it is.

    Raises:
        ValidationError: see :func:`gateway.errors.invalid`.
        Invalid: see :func:`document_of`.
    """
    return _ADAPTER.validate_json(body), strict_json(body)


def strict_json(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes.

    Raises:
        Invalid: another reader could find something else in them, or no number where one stands.
    """
    try:
        document: dict[str, Any] = _STRICT.decode(body.decode())
    except ValueError as error:
        raise ValidationFailed(str(error)) from None
    return document


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the body has the name {twice[:100]!r} more than once in one object")
    return found


def _int64(digits: str) -> int:
    if not -(1 << 63) <= int(digits) < 1 << 64:
        raise ValueError(f"the body has an integer that does not fit into 64 bits: {digits[:40]}")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the body has a number that is none: {text[:40]}")
    return number


_STRICT = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_int=_int64, parse_float=_finite, parse_constant=_finite
)


def fingerprint(document: Mapping[str, Any]) -> bytes:
    """SHA-256 of what the request means: white space, order of keys and the idempotency key itself do not count."""
    means = {name: value for name, value in document.items() if name != "idempotency_key"}
    return hashlib.sha256(orjson.dumps(means, option=orjson.OPT_SORT_KEYS)).digest()


def to_new_message(
    request: SendRequest,
    *,
    project_id: UUID,
    sender: str | None,
    sandbox: bool,
    key: str | None,
    fingerprint: bytes,
    preferred_provider_id: UUID | None,
    now: datetime,
    requeue_after: timedelta,
) -> NewMessage:
    """The message that a request becomes. ``sender`` is the project's default, used where the request names none."""
    message_id = uuid7(milliseconds_of(now))
    content, files = _CONTENT[type(request)](request, sender)
    return NewMessage(
        id=message_id,
        project_id=project_id,
        channel=Channel(request.channel),
        delivery_class=request.delivery_class,
        sender=content.get("sender"),
        content=encode_content_unchecked({"channel": request.channel, **content}),
        deliveries=tuple(NewDelivery(uuid7_like(message_id), recipient) for recipient in _recipients(request)),
        created_at=now,
        expires_at=request.expires_at or (request.send_at or now) + DEFAULT_LIFETIME[request.delivery_class],
        due_at=request.send_at or now + requeue_after,
        send_at=request.send_at,
        tags=tuple(request.tags),
        metadata=None if request.metadata is None else orjson.dumps(request.metadata).decode(),
        preferred_provider_id=preferred_provider_id,
        sandbox=sandbox,
        idempotency_key=key,
        fingerprint=fingerprint,
        attachments=files,
    )


def _recipients(body: SendRequest) -> list[str]:
    """A mail is one envelope and so one delivery; everywhere else each recipient gets one."""
    return [", ".join(body.to)[:2000]] if isinstance(body, EmailRequest) else list(dict.fromkeys(body.to))


# Fields of the channel's content in :mod:`sluice.model.message`, and the files that it refers to by their hash.
_Content = tuple[dict[str, Any], tuple[tuple[str, bytes], ...]]


def _email(body: EmailRequest, sender: str | None) -> _Content:
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


def _text(body: SmsRequest | ChatRequest, _: str | None) -> _Content:
    return {"sender": body.from_, "text": body.text}, ()


def _whatsapp(body: WhatsappRequest, _: str | None) -> _Content:
    options = body.channel_options
    return {"text": body.text} if options is None else options.model_dump(), ()


def _push(body: PushRequest, _: str | None) -> _Content:
    options = body.channel_options
    return {"title": body.subject, "text": body.text, "image": options.image, "data": options.data}, ()


_CONTENT: dict[type[Any], Callable[[Any, str | None], _Content]] = {
    EmailRequest: _email,
    SmsRequest: _text,
    WhatsappRequest: _whatsapp,
    ChatRequest: _text,
    PushRequest: _push,
}
