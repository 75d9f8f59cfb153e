"""The bodies of ``/v1/messages``: requests, one model a channel, their command, and the responses."""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

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
    ValidationError,
    model_validator,
)

from gateway.errors import ValidationFailed, from_faults
from gateway.ingest.command import SendCommand, fingerprint
from gateway.kit.fields import (
    Line,
    NamedAddress,
    Number,
    Short,
    Text,
    Timestamp,
    as_list,
    empty_list,
    one_line,
    storable,
)
from gateway.kit.strict_json import strict_json
from sluice.model.message import Channel, DeliveryClass
from sluice.model.state import State

MAX_RECIPIENTS = 1000


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
            return storable(self.content).encode()
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
        list[Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(one_line)]],
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
AnySendRequest = Annotated[SendRequest, Discriminator("channel")]
_ADAPTER: TypeAdapter[SendRequest] = TypeAdapter(AnySendRequest)
_CHANNELS = frozenset(Channel)


def parse(body: bytes) -> tuple[SendRequest, dict[str, Any]]:
    """The validated request, and the JSON object that it was read from.

    Raises:
        ValidationFailed: the body is not a request of the contract, or not the same JSON to every reader.
    """
    try:
        return _ADAPTER.validate_json(body), strict_json(body)
    except ValidationError as error:
        raise _refusal(error) from None
    except RecursionError:
        raise ValidationFailed("The body is not valid JSON.") from None


def _refusal(error: ValidationError) -> ValidationFailed:
    faults = error.errors(include_url=False, include_input=False)
    if faults[0]["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return ValidationFailed(f"channel: must be one of {', '.join(Channel)}", field="channel")
    return from_faults(faults, without=_CHANNELS)


def to_command(
    body: bytes,
    *,
    header_key: str | None = None,
    fallback_key: str | None = None,
    submitted_at: datetime | None = None,
) -> SendCommand:
    """The command in the body of ``POST /v1/messages/channel``.

    ``header_key`` is the ``Idempotency-Key`` header; ``fallback_key`` the idempotency key of a request without one;
    ``submitted_at`` when the caller let go of the request, if that is not now.

    Raises:
        ValidationFailed: see :func:`parse`; or body and header have different idempotency keys.
    """
    request, document = parse(body)
    if header_key and request.idempotency_key and header_key != request.idempotency_key:
        raise ValidationFailed("idempotency_key: differs from the Idempotency-Key header", field="idempotency_key")
    key = request.idempotency_key or _checked(header_key) or fallback_key
    sender, recipients, content, attachments = _PARTS[type(request)](request)
    return SendCommand(
        channel=Channel(request.channel),
        delivery_class=request.delivery_class,
        sender=sender,
        recipients=recipients,
        content=content,
        attachments=attachments,
        tags=request.tags,
        metadata=None if request.metadata is None else orjson.dumps(request.metadata).decode(),
        preferred_provider=request.preferred_provider,
        send_at=request.send_at,
        expires_at=request.expires_at,
        idempotency_key=key,
        fingerprint=fingerprint(document) if key else b"",
        submitted_at=submitted_at,
    )


def _checked(header_key: str | None) -> str | None:
    if header_key is not None and (not 0 < len(header_key) <= 255 or not header_key.isprintable()):
        raise ValidationFailed(
            "The Idempotency-Key header must have 1 to 255 printable characters.", field="idempotency_key"
        )
    return header_key


# Sender, recipients, content and attachments of a command.
_Parts = tuple[str | None, list[str], dict[str, Any], tuple[tuple[str, bytes], ...]]


def _email(request: EmailRequest) -> _Parts:
    """One envelope, and so one delivery."""
    files = [(attachment, attachment.decoded()) for attachment in request.attachments]
    hashed = [(attachment, content, hashlib.sha256(content).hexdigest()) for attachment, content in files]
    content = {
        "to": request.to,
        "cc": request.cc,
        "bcc": request.bcc,
        "reply_to": request.reply_to,
        "subject": request.subject,
        "html": request.html,
        "text": request.text,
        "attachments": [
            {
                "filename": attachment.filename,
                "content_type": attachment.content_type or _guess(attachment.filename),
                "sha256": digest,
                "size": len(content),
            }
            for attachment, content, digest in hashed
        ],
    }
    recipient = ", ".join(request.to)[:2000]
    return request.from_, [recipient], content, tuple([(digest, content) for _, content, digest in hashed])


def _guess(filename: str) -> str:
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def _distinct(recipients: list[str]) -> list[str]:
    return list(dict.fromkeys(recipients))


def _text(request: SmsRequest | ChatRequest) -> _Parts:
    return request.from_, _distinct(request.to), {"text": request.text}, ()


def _whatsapp(request: WhatsappRequest) -> _Parts:
    options = request.channel_options
    return None, _distinct(request.to), {"text": request.text} if options is None else options.model_dump(), ()


def _push(request: PushRequest) -> _Parts:
    options = request.channel_options
    content = {"title": request.subject, "text": request.text, "image": options.image, "data": options.data}
    return None, _distinct(request.to), content, ()


_PARTS: dict[type[Any], Callable[[Any], _Parts]] = {
    EmailRequest: _email,
    SmsRequest: _text,
    WhatsappRequest: _whatsapp,
    ChatRequest: _text,
    PushRequest: _push,
}


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class AcceptedResponse(_Response):
    """A send request was accepted."""

    id: str
    project_id: str
    status: Literal["queued"]
    channel: Channel
    created_at: Timestamp


class ProviderReference(_Response):
    """A provider by id and name."""

    id: str
    name: str


class EventResponse(_Response):
    """One entry of a message's history."""

    id: str
    type: str
    status: State | None
    provider: ProviderReference | None
    recipient: str
    attempt: int | None
    detail: str
    created_at: Timestamp


class MessageResponse(_Response):
    """A message with its history."""

    id: str
    project_id: str
    status: State
    channel: Channel
    delivery_class: DeliveryClass = Field(alias="class")
    from_: str | None = Field(alias="from")
    to: list[str]
    subject: str | None
    tags: list[str]
    metadata: dict[str, Any] | None
    provider: ProviderReference | None
    attempts: int
    created_at: Timestamp
    events: list[EventResponse]
