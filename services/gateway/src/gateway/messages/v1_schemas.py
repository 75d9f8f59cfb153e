"""The bodies of ``/v1/messages``: requests, one model a channel, their command, and the responses."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi.openapi.models import Example
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from gateway.apis.rendering import V1ErrorDetail
from gateway.errors import ValidationFailed, from_faults
from gateway.ingest.command import SendCommand, TemplateUse, fingerprint
from gateway.kit.base64 import decode_base64
from gateway.kit.body_cost import MAX_WITHOUT_ATTACHMENTS, SMALL, check_cost, too_large_without_attachments
from gateway.kit.fields import (
    ChatId,
    ContentId,
    DeviceToken,
    FileName,
    Free,
    Line,
    NamedAddress,
    Number,
    OrOne,
    RequestModel,
    Short,
    Text,
    Time,
    Timestamp,
    VisibleText,
    empty_list,
    nullable,
    storable,
)
from gateway.kit.provider_reference import ProviderReference
from gateway.kit.responses import checked_key
from gateway.kit.strict_json import strict_json, without_nulls
from gateway.routing.v1_schemas import DecisionResponse
from sluice.model.address import parse_address
from sluice.model.media_type import MediaType, guess_media_type, parse_media_type
from sluice.model.message import Channel, DeliveryClass
from sluice.model.state import State

MAX_RECIPIENTS = 1000
_MANY_ADDRESSES = 300
MAX_VARIABLES = 262_144  # bytes of JSON
_LARGE_BODIES = asyncio.Semaphore(1)  # decoded at once: more threads only take the interpreter from the event loop
_MAX_METADATA = 16 << 10  # bytes of JSON
_MAX_NAMES = 100  # in an object that is the caller's own, at all levels together
_MAX_METADATA_DEPTH = 16


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    """``value``, if it is small enough to be returned with every message."""
    names = 0
    level: list[Any] = [value]
    for _ in range(_MAX_METADATA_DEPTH):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                names += len(each)
            inner += each.values() if isinstance(each, dict) else each
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level or names > _MAX_NAMES:
            break
    else:
        raise ValueError(f"must have at most {_MAX_METADATA_DEPTH} levels")
    if names > _MAX_NAMES:
        raise ValueError(f"must have at most {_MAX_NAMES} names")
    if len(orjson.dumps(value)) > _MAX_METADATA:
        raise ValueError(f"must have at most {_MAX_METADATA} bytes of JSON")
    return value


def _push_data(value: dict[str, str]) -> dict[str, str]:
    _metadata(value)
    return value


class _SendRequest(RequestModel):
    tags: Annotated[list[Short], Field(max_length=50)] = empty_list()
    idempotency_key: Short | None = None
    preferred_provider: Short | None = None
    send_at: Time | None = None
    expires_at: Time | None = None
    metadata: Annotated[dict[str, Any], Free(), AfterValidator(_metadata)] | None = None
    template_id: Short | None = Field(None, description="A stored template, in place of the content.")
    variables: Annotated[dict[str, Any], Free()] | None = Field(
        None, description="The values of the template's variables: any JSON."
    )
    delivery_class: DeliveryClass = Field(DeliveryClass.STANDARD, alias="class")

    @field_validator("expires_at")
    @classmethod
    def _expires_later_than_sent(cls, expires_at: datetime, fields: ValidationInfo) -> datetime:
        send_at = fields.data.get("send_at")
        if send_at is not None and expires_at <= send_at:
            raise ValueError("must be later than send_at")
        return expires_at

    @field_validator("variables")
    @classmethod
    def _has_a_template(cls, variables: dict[str, Any], fields: ValidationInfo) -> dict[str, Any]:
        if fields.data.get("template_id") is None:
            raise ValueError("need a template_id")
        if len(orjson.dumps(variables)) > MAX_VARIABLES:
            raise ValueError(f"have more than {MAX_VARIABLES} bytes")
        return variables


def _beside_template(content: object, fields: ValidationInfo) -> bool:
    """Whether the content comes from a template.

    Raises:
        ValueError: it is also in the request.
    """
    if fields.data.get("template_id") is None:
        return False
    if content is not None:
        raise ValueError("is not possible beside template_id")
    return True


def _required_text(text: str | None, fields: ValidationInfo) -> str | None:
    if not _beside_template(text, fields) and text is None:
        raise ValueError("is required, unless there is a template_id")
    return text


_SOME, _NONE, _OBJECT = {"type": "string"}, {"type": "null"}, {"type": "object", "additionalProperties": True}


def _contents(*alternatives: Mapping[str, Any], beside_template: Sequence[str]) -> ConfigDict:
    """The document of a request that has one of ``alternatives`` (fields with their schemas), or a template.

    ``beside_template``: the fields that a template excludes.
    """
    own = [{**fields, "template_id": _NONE, "variables": _NONE} for fields in alternatives]
    templated = {"template_id": _SOME, **dict.fromkeys(beside_template, _NONE)}

    def add(schema: dict[str, Any]) -> None:
        nullable(schema)
        schema["anyOf"] = [
            {"properties": fields, "required": [name for name, field in fields.items() if field is not _NONE]}
            for fields in (*own, templated)
        ]

    return ConfigDict(json_schema_extra=add)


_TEXT_OR_TEMPLATE = _contents({"text": _SOME}, beside_template=["text"])
_TemplatedText = Annotated[VisibleText | None, AfterValidator(_required_text)]
"""A text that is required, unless a template yields it."""


class AttachmentRequest(RequestModel):
    """A file in the request."""

    # In the order of validation: the encoding decides how the others are read.
    encoding: Literal["base64", "utf-8"] = "base64"
    filename: FileName
    content: Annotated[bytes, WithJsonSchema({"type": "string"})]
    content_type: Short | None = None
    content_id: ContentId | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _decode(cls, content: Any, fields: ValidationInfo) -> bytes:
        if not isinstance(content, str):
            raise ValueError("must be a string")
        return storable(content).encode() if fields.data.get("encoding") == "utf-8" else decode_base64(content)

    @field_validator("content_type")
    @classmethod
    def _is_media_type(cls, text: str, fields: ValidationInfo) -> str:
        charset = parse_media_type(text).parameter("charset")
        if fields.data.get("encoding") == "utf-8" and (charset or "utf-8").lower() != "utf-8":
            raise ValueError('must have the charset utf-8, because the content has the encoding "utf-8"')
        return text

    @property
    def media_type(self) -> MediaType:
        """The content type with its parameters, or the one that the name of the file suggests.

        The charset of base64 is known to the caller only. That of a text which is encoded here is UTF-8.
        """
        found = guess_media_type(self.filename) if self.content_type is None else parse_media_type(self.content_type)
        is_text = self.encoding == "utf-8" and found.kind.startswith("text/")
        return found.with_parameter("charset", "utf-8") if is_text and found.parameter("charset") is None else found


class EmailRequest(_SendRequest):
    """``channel: email``."""

    model_config = _contents(
        {"subject": _SOME, "html": _SOME}, {"subject": _SOME, "text": _SOME}, beside_template=["html", "text"]
    )

    channel: Literal["email"]
    from_: NamedAddress | None = Field(None, alias="from")
    to: Annotated[list[NamedAddress], Field(min_length=1, max_length=MAX_RECIPIENTS), OrOne()]
    cc: Annotated[list[NamedAddress], Field(max_length=MAX_RECIPIENTS), OrOne()] = empty_list()
    bcc: Annotated[list[NamedAddress], Field(max_length=MAX_RECIPIENTS), OrOne()] = empty_list()
    reply_to: NamedAddress | None = None
    subject: Line | None = Field(None, validate_default=True, description="Beside template_id: replaces its subject.")
    html: Text | None = Field(None, validate_default=True)
    text: Text | None = Field(None, validate_default=True)
    attachments: Annotated[list[AttachmentRequest], Field(max_length=50)] = empty_list()
    unsubscribe: StrictBool = Field(
        False,
        description="Adds the headers List-Unsubscribe and List-Unsubscribe-Post (RFC 8058). The link in them "
        "suppresses the recipient, so that there must be exactly one.",
    )

    @field_validator("subject")
    @classmethod
    def _has_subject(cls, subject: str | None, fields: ValidationInfo) -> str | None:
        if subject is None and fields.data.get("template_id") is None:
            raise ValueError("is required, unless there is a template_id")
        return subject

    @field_validator("html")
    @classmethod
    def _is_html_alone(cls, html: str | None, fields: ValidationInfo) -> str | None:
        _beside_template(html, fields)
        return html

    @field_validator("text")
    @classmethod
    def _has_content(cls, text: str | None, fields: ValidationInfo) -> str | None:
        if not _beside_template(text, fields) and text is None and fields.data.get("html") is None:
            raise ValueError("is required, unless there is html or a template_id")
        return text

    @field_validator("unsubscribe")
    @classmethod
    def _has_one_recipient(cls, unsubscribe: bool, fields: ValidationInfo) -> bool:
        if unsubscribe and sum(len(fields.data.get(name, ())) for name in ("to", "cc", "bcc")) != 1:
            raise ValueError("needs exactly one recipient, whom the link in the mail unsubscribes")
        return unsubscribe


class SmsRequest(_SendRequest):
    """``channel: sms``."""

    model_config = _TEXT_OR_TEMPLATE

    channel: Literal["sms"]
    from_: Short = Field(alias="from")
    to: Annotated[list[Number], Field(min_length=1, max_length=MAX_RECIPIENTS), OrOne()]
    text: _TemplatedText = Field(None, validate_default=True)


class WhatsappOptions(RequestModel):
    """``channel_options`` of WhatsApp."""

    template_name: Short
    template_language: Short
    template_params: Annotated[list[Text], Field(max_length=100)] = empty_list()


class WhatsappRequest(_SendRequest):
    """``channel: whatsapp``: a template, or text inside the 24-hour window."""

    model_config = _contents(
        {"text": _SOME, "channel_options": _NONE},
        {"channel_options": _OBJECT, "text": _NONE},
        beside_template=["text", "channel_options"],
    )

    channel: Literal["whatsapp"]
    to: Annotated[list[Number], Field(min_length=1, max_length=MAX_RECIPIENTS), OrOne()]
    channel_options: WhatsappOptions | None = None
    text: VisibleText | None = Field(None, validate_default=True)

    @field_validator("text")
    @classmethod
    def _has_content(cls, text: str | None, fields: ValidationInfo) -> str | None:
        if _beside_template(text, fields):
            if fields.data.get("channel_options") is not None:
                raise ValueError("comes from template_id, beside which channel_options are not possible")
            return text
        if (fields.data.get("channel_options") is None) == (text is None):
            raise ValueError("is required, unless there are channel_options (a template); both are not possible")
        return text


class ChatRequest(_SendRequest):
    """``channel: telegram`` and ``signal``."""

    model_config = _TEXT_OR_TEMPLATE

    channel: Literal["telegram", "signal"]
    from_: Short | None = Field(None, alias="from")
    to: Annotated[
        list[ChatId],
        Field(min_length=1, max_length=MAX_RECIPIENTS),
        OrOne(),
    ]
    text: _TemplatedText = Field(None, validate_default=True)


_Override = Annotated[dict[str, Any], Free(), AfterValidator(_metadata)]


class PushPlatforms(RequestModel):
    """What only one kind of device gets: fields of FCM's `AndroidConfig`, `ApnsConfig` and `WebpushConfig`."""

    android: _Override | None = None
    apns: _Override | None = None
    webpush: _Override | None = None


class PushOptions(RequestModel):
    """``channel_options`` of push."""

    data: Annotated[dict[str, str], Free(), Field(max_length=_MAX_NAMES), AfterValidator(_push_data)] = Field(
        default_factory=dict, json_schema_extra={"default": {}}
    )
    image: Short | None = None
    platform: PushPlatforms = PushPlatforms()


class PushRequest(_SendRequest):
    """``channel: push``."""

    model_config = _contents(
        {"text": _SOME},
        {"subject": _SOME},
        {
            "channel_options": {
                "type": "object",
                "properties": {"data": {**_OBJECT, "minProperties": 1}},
                "required": ["data"],
            }
        },
        beside_template=["text"],
    )

    channel: Literal["push"]
    to: Annotated[
        list[DeviceToken],
        Field(min_length=1, max_length=MAX_RECIPIENTS),
        OrOne(),
    ]
    subject: Line | None = None
    channel_options: PushOptions = PushOptions()
    text: Text | None = Field(None, validate_default=True)

    @field_validator("text")
    @classmethod
    def _has_content(cls, text: str | None, fields: ValidationInfo) -> str | None:
        options = fields.data.get("channel_options")
        if _beside_template(text, fields):
            return text
        if text is None and fields.data.get("subject") is None and not (options and options.data):
            raise ValueError("is required, unless there is a subject or channel_options.data")
        return text


SendRequest = EmailRequest | SmsRequest | WhatsappRequest | ChatRequest | PushRequest
AnySendRequest = Annotated[SendRequest, Discriminator("channel")]

SEND_EXAMPLES: dict[str, Example] = {
    "email": {
        "value": {
            "channel": "email",
            "from": "Shop <shop@example.com>",
            "to": ["ada@example.com"],
            "subject": "Your order",
            "html": "<p>It is on its way.</p>",
            "tags": ["orders"],
            "metadata": {"order": 17},
            "idempotency_key": "order-17",
        }
    },
    "sms": {
        "value": {
            "channel": "sms",
            "from": "Shop",
            "to": ["+14155551234"],
            "text": "Your code is 483921",
            "class": "urgent",
        }
    },
    "whatsapp": {
        "value": {
            "channel": "whatsapp",
            "to": ["+14155551234"],
            "channel_options": {
                "template_name": "order_confirmation",
                "template_language": "en",
                "template_params": ["17"],
            },
        }
    },
    "telegram": {"value": {"channel": "telegram", "to": ["123456789"], "text": "It is on its way."}},
    "push": {
        "value": {
            "channel": "push",
            "to": ["user:ada"],
            "subject": "Your order",
            "text": "It is on its way.",
            "channel_options": {"data": {"order": "17"}},
        }
    },
}
"""A request for each kind of channel, for the document."""


class BatchRequest(RequestModel):
    """Several messages, each with the fields of a single one."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "messages": [
                    {"channel": "sms", "from": "Shop", "to": ["+14155551234"], "text": "Your code is 483921"},
                    {
                        "channel": "email",
                        "from": "shop@example.com",
                        "to": ["ada@example.com"],
                        "subject": "Your order",
                        "text": "It is on its way.",
                    },
                ]
            }
        }
    )

    messages: Annotated[list[AnySendRequest], Field(min_length=1, max_length=1000)]


_ADAPTER: TypeAdapter[SendRequest] = TypeAdapter(AnySendRequest)
_CHANNELS = frozenset(Channel)
_FREE = ("metadata", "data", "variables")  # objects whose fields are the caller's


def parse(body: bytes) -> tuple[SendRequest, dict[str, Any]]:
    """The validated request, and the JSON object that it was read from, without null fields.

    Raises:
        ValidationFailed: the body is not a request of the contract, or not the same JSON to every reader.
    """
    document = strict_json(body)
    if len(body) > SMALL or b"null" in body:  # a search of all of a large body takes longer
        document = without_null_fields(document)
    return _validate(document), document


def without_null_fields(document: dict[str, Any]) -> dict[str, Any]:
    """A request, or a part of one, without its null fields: null is the absence of a field."""
    without: dict[str, Any] = without_nulls(document, free=_FREE)
    return without


def _validate(document: dict[str, Any]) -> SendRequest:
    try:
        return _ADAPTER.validate_python(document)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> ValidationFailed:
    faults = error.errors(include_url=False, include_input=False)
    if faults[0]["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return ValidationFailed(f"channel: must be one of {', '.join(Channel)}", field="channel")
    return from_faults(faults, without=_CHANNELS)


async def read_command(body: bytes, **options: Any) -> SendCommand:
    """:func:`to_command`, in a thread where it takes longer than the event loop can wait.

    Raises:
        PayloadTooLarge: see :func:`gateway.kit.body_cost.check_cost`.
        ValidationFailed: see :func:`to_command`.
    """
    # An international address costs 80 µs, a hundred times the usual one.
    addresses = body.count(b"@") + body.count(b"\\u0040") if len(body) <= SMALL else _MANY_ADDRESSES + 1
    if addresses <= _MANY_ADDRESSES:
        return to_command(body, **options)
    async with _LARGE_BODIES:
        return await asyncio.to_thread(_large_command, body, options)


def _large_command(body: bytes, options: dict[str, Any]) -> SendCommand:
    check_cost(body)
    return to_command(body, **options)


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
        PayloadTooLarge: the body is large without its attachments.
    """
    request, document = parse(body)
    if len(body) > MAX_WITHOUT_ATTACHMENTS:
        _check_size(document)
    return _command(request, document, header_key=header_key, fallback_key=fallback_key, submitted_at=submitted_at)


def command_of(document: dict[str, Any], *, fallback_key: str | None = None, bulk_id: str | None = None) -> SendCommand:
    """As :func:`to_command`, for a JSON object that was read with others. ``bulk_id``: of its bulk job.

    Raises:
        ValidationFailed: see :func:`parse`.
        PayloadTooLarge: the object is large without its attachments.
    """
    document = without_null_fields(document)
    request = _validate(document)
    _check_size(document)
    return _command(request, document, fallback_key=fallback_key)._replace(bulk_id=bulk_id)


def _command(
    request: SendRequest,
    document: dict[str, Any],
    *,
    header_key: str | None = None,
    fallback_key: str | None = None,
    submitted_at: datetime | None = None,
) -> SendCommand:
    key = _idempotency_key(request, header_key) or fallback_key
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
        template=None if request.template_id is None else TemplateUse(request.template_id, request.variables or {}),
        unsubscribe=isinstance(request, EmailRequest) and request.unsubscribe,
    )


def _idempotency_key(request: SendRequest, header_key: str | None) -> str | None:
    if header_key and request.idempotency_key and header_key != request.idempotency_key:
        raise ValidationFailed("idempotency_key: differs from the Idempotency-Key header", field="idempotency_key")
    return request.idempotency_key or checked_key(header_key)


def _check_size(document: dict[str, Any]) -> None:
    """Only the contents of attachments may be large.

    Raises:
        PayloadTooLarge: the rest of the document has more than 1 MiB.
    """
    attachments = [{**each, "content": ""} for each in document.get("attachments", ())]
    if len(orjson.dumps({**document, "attachments": attachments})) > MAX_WITHOUT_ATTACHMENTS:
        raise too_large_without_attachments()


# Sender, recipients, content and attachments of a command.
_Parts = tuple[str | None, list[str], dict[str, Any], tuple[tuple[str, bytes], ...]]


def _email(request: EmailRequest) -> _Parts:
    """One envelope, and so one delivery."""
    if request.attachments:
        _check_attachments(request)
    to, cc, bcc = request.to, request.cc, request.bcc
    if len(to) + len(cc) + len(bcc) > 1:
        to, cc, bcc = _one_each(to, cc, bcc)
    hashed = [(attachment, hashlib.sha256(attachment.content).hexdigest()) for attachment in request.attachments]
    content = {
        "to": to,
        "cc": cc,
        "bcc": bcc,
        "reply_to": request.reply_to,
        "subject": request.subject,
        "html": request.html,
        "text": request.text,
        "attachments": [
            {
                "filename": attachment.filename,
                "content_type": str(attachment.media_type),
                "sha256": digest,
                "size": len(attachment.content),
                "content_id": attachment.content_id,
            }
            for attachment, digest in hashed
        ],
    }
    files = tuple([(digest, attachment.content) for attachment, digest in hashed])
    return request.from_, [", ".join(to)[:2000]], content, files


def _check_attachments(request: EmailRequest) -> None:
    """What the attachments need of each other and of the mail.

    Raises:
        ValidationFailed: a content id is used twice, or without HTML; or there are two invitations.
    """
    content_ids = set()
    invitations = 0
    for index, attachment in enumerate(request.attachments):
        if attachment.content_id is not None:
            if attachment.content_id in content_ids:
                raise _attachment_fault(index, "content_id", "is the content_id of another attachment")
            if request.html is None and request.template_id is None:
                raise _attachment_fault(index, "content_id", "needs html, which refers to it")
            content_ids.add(attachment.content_id)
        invitations += attachment.media_type.is_invitation
        if invitations > 1:
            raise _attachment_fault(index, "content_type", "is a second calendar object with a method")


def _attachment_fault(index: int, name: str, text: str) -> ValidationFailed:
    field = f"attachments.{index}.{name}"
    return ValidationFailed(f"{field}: {text}", field=field)


def _one_each(*lists: list[str]) -> list[list[str]]:
    """The lists without the mailboxes that stand in them before: everyone gets one copy."""
    seen: set[str] = set()
    kept: list[list[str]] = []
    for texts in lists:
        kept.append([])
        for text in texts:
            bare = parse_address(text).bare
            if bare not in seen:
                seen.add(bare)
                kept[-1].append(text)
    return kept


def _distinct(recipients: list[str]) -> list[str]:
    return list(dict.fromkeys(recipients))


def _text(request: SmsRequest | ChatRequest) -> _Parts:
    return request.from_, _distinct(request.to), {"text": request.text}, ()


def _whatsapp(request: WhatsappRequest) -> _Parts:
    options = request.channel_options
    return None, _distinct(request.to), {"text": request.text} if options is None else options.model_dump(), ()


def _push(request: PushRequest) -> _Parts:
    options = request.channel_options
    content = {
        "title": request.subject,
        "text": request.text,
        "image": options.image,
        "data": options.data,
        "platform": options.platform.model_dump(exclude_none=True),
    }
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


class ItemError(_Response):
    """An item of a batch that was not accepted."""

    error: V1ErrorDetail


class BatchResponse(_Response):
    """What became of each message of a batch, in its order."""

    data: list[AcceptedResponse | ItemError]


class RetriedDelivery(_Response):
    """A failed delivery. ``retried_as``: the new message that sends it again; null with an ``error`` or a dry run."""

    message_id: str
    delivery_id: str
    retried_as: AcceptedResponse | None
    error: V1ErrorDetail | None


class TemplateReference(_Response):
    """The version of a template that a message was made from."""

    id: str
    version: int


class EventResponse(_Response):
    """One entry of a message's history. ``reason``: the normalised cause of a refusal or a negative receipt;
    ``routing``: of an attempt, why it went to its provider.
    """

    id: str
    type: str
    status: State | None
    provider: ProviderReference | None
    recipient: str
    attempt: int | None
    reason: str | None
    detail: str
    routing: DecisionResponse | None
    created_at: Timestamp


class DeliveryReceiptResponse(_Response):
    """A provider's later statement about the attempt: an event type such as `delivered`, `bounced` or `opened`."""

    type: str
    received_at: Timestamp


class DeliveryAttemptResponse(_Response):
    """One call of a provider.

    ``outcome``: `accepted`, `recipient_rejected`, `declined`, `throttled`, `auth_failed`, `provider_fault`, `unknown`
    (no answer: the message may have been sent), or null while it is in flight. ``reference``: the idempotency key or
    client reference that the provider got; a retry under the same key has that of the attempt before.
    """

    id: str
    number: int
    provider: ProviderReference
    round: int = Field(description="Each round goes over all providers.")
    started_at: Timestamp
    finished_at: Timestamp | None
    duration_ms: int | None
    outcome: str | None
    detail: str = Field(description="The provider's words.")
    reference: str
    provider_message_id: str | None
    routing: DecisionResponse | None = Field(description="Why it went to this provider, with the numbers of then.")
    receipts: list[DeliveryReceiptResponse]


class DeliveryResponse(_Response):
    """A message to one recipient; of e-mail, to one envelope.

    ``due_at``: when the next attempt may begin, or what a running one is waited for; null once nothing is due.
    ``attempt_count`` and ``event_count``: all of them, of which the answer may have only the first and the newest.
    """

    id: str
    recipient: str
    status: State
    due_at: Timestamp | None
    failed_over: bool
    possible_duplicate: bool
    attempt_count: int
    event_count: int
    attempts: list[DeliveryAttemptResponse]


class MessageSummary(_Response):
    """A message without its history.

    ``failed_over``: several providers were called for one delivery; ``possible_duplicate``: it may have arrived twice.
    """

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
    template: TemplateReference | None
    provider: ProviderReference | None = Field(description="The one that took it. Null: none has, or not yet.")
    attempts: int
    failed_over: bool
    possible_duplicate: bool
    created_at: Timestamp


class MessageResponse(MessageSummary):
    """A message with its deliveries, each with its attempts, and its history."""

    deliveries: list[DeliveryResponse]
    events: list[EventResponse]
    next_cursor: str | None = Field(description="The cursor of further deliveries; null at the end.")
