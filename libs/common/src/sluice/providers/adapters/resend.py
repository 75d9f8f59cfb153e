"""Resend, POST /emails (https://resend.com/docs, OpenAPI 1.5.0, read 2026-08).

Takes an idempotency key for 24 hours: a repeat with the same key and the same bytes is answered from memory.
The body is therefore serialised from our own fields in one fixed order.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import orjson
from pydantic import Field, SecretStr

from sluice.model.message import Attachment, Channel, Email
from sluice.model.outcome import Accepted, AuthFailed, Outcome, ProviderFault, Rejected, Throttled, Unknown
from sluice.providers.contract import (
    Credentials,
    InvalidReceiptSignatureError,
    OutboundMessage,
    Package,
    Receipt,
    ReceiptKind,
    ReceiptRequest,
    TransportKind,
    UnsupportedMessageError,
)
from sluice.providers.kit.address import parse_address
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import endpoint, post
from sluice.providers.kit.responses import MAX_RETRY_AFTER, OutcomeType, describe, json_body, make_outcome

_PLAIN_NAME = re.compile(r"[\w !#$%&'*+/=?^`{|}~-]+")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")


class ResendCredentials(Credentials):
    """An API key; the webhook secret is needed for receipts only."""

    api_key: HeaderSecret = Field(alias="apiKey", title="API key")
    webhook_secret: SecretStr | None = Field(
        default=None, alias="webhookSecret", title="Signing secret of the webhook (whsec_…)"
    )
    base_url: str = Field(default="https://api.resend.com", alias="baseUrl", pattern=BASE_URL, title="Address")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: ResendCredentials) -> httpx.Request:
    """One request for the whole envelope."""
    mail = message.content
    if not isinstance(mail, Email):
        raise UnsupportedMessageError("Resend carries e-mail only")
    headers = (
        (b"Authorization", f"Bearer {credentials.api_key.get_secret_value()}".encode()),
        (b"Content-Type", b"application/json"),
        (b"Accept", b"application/json"),
        (b"User-Agent", b"sluice"),  # requests without one are said to be refused
        (b"Idempotency-Key", message.reference.encode()),
    )
    return post(endpoint(credentials.base_url, "/emails"), headers, orjson.dumps(_fields(mail, message)))


def _fields(mail: Email, message: OutboundMessage) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "from": _address(mail.sender),
        "to": [_address(to) for to in mail.to],
        "cc": [_address(cc) for cc in mail.cc] or None,
        "bcc": [_address(bcc) for bcc in mail.bcc] or None,
        "reply_to": _address(mail.reply_to) if mail.reply_to else None,
        "subject": mail.subject,
        "html": mail.html,
        "text": mail.text,
        "attachments": [_attachment(file, message.attachments) for file in mail.attachments] or None,
        "headers": {"X-Sluice-Message-Id": message.message_id},
        "tags": [_tag("msg", message.message_id), _tag("ref", message.reference)],
    }
    return {name: value for name, value in fields.items() if value is not None}


def _address(text: str) -> str:
    """As written, but with the domain in punycode: Resend takes no other form."""
    address = parse_address(text)
    if not address.name:
        return address.bare
    if _PLAIN_NAME.fullmatch(address.name):
        return f"{address.name} <{address.bare}>"
    name = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{address.bare}>'


def _attachment(file: Attachment, contents: Mapping[str, bytes]) -> dict[str, str]:
    content = base64.b64encode(contents[file.sha256]).decode("ascii")
    return {"content": content, "filename": file.filename, "content_type": file.content_type}


def _tag(name: str, value: str) -> dict[str, str]:
    """Tags take ASCII letters, digits, ``_`` and ``-`` only, which our ids are made of."""
    if not _TAG.fullmatch(value):
        raise UnsupportedMessageError("an id of ours cannot stand in a tag")
    return {"name": name, "value": value}


# Answers. Decided on status and ``name``, never on the words, which change. --------------------------------

ERROR_CODES: Mapping[tuple[int, str], OutcomeType] = {
    (400, "validation_error"): Rejected,
    (400, "invalid_idempotency_key"): Rejected,
    (401, "missing_api_key"): AuthFailed,
    (401, "restricted_api_key"): AuthFailed,
    (403, "invalid_api_key"): AuthFailed,
    (403, "suspended_api_key"): AuthFailed,
    (403, "invalid_permission"): AuthFailed,
    (403, "validation_error"): AuthFailed,  # the sender's domain is not verified, or a test sender
    # The sender is always the message's own, so its syntax is the message's fault, not the account's.
    (403, "invalid_from_address"): Rejected,
    (422, "invalid_from_address"): Rejected,
    (404, "not_found"): AuthFailed,  # a wrong base URL
    (405, "method_not_allowed"): AuthFailed,
    # The key was used within 24 h for other bytes: an earlier send under it took place.
    (409, "invalid_idempotent_request"): Unknown,
    # Our own earlier request is still being worked on: repeat the same key, here.
    (409, "concurrent_idempotent_requests"): Unknown,
    (422, "missing_required_field"): Rejected,
    (422, "missing_required_parameter"): Rejected,
    (422, "invalid_parameter"): Rejected,
    (422, "invalid_attachment"): Rejected,
    (422, "validation_error"): Rejected,
    (422, "invalid_access"): AuthFailed,
    (422, "invalid_region"): AuthFailed,
    (429, "rate_limit_exceeded"): Throttled,
    (429, "daily_quota_exceeded"): Throttled,
    (429, "monthly_quota_exceeded"): Throttled,
    (451, "security_error"): Rejected,
    (500, "application_error"): ProviderFault,
    (500, "internal_server_error"): ProviderFault,
    (503, "service_unavailable"): ProviderFault,
}
# For a name we do not know. 500 and 503 without Resend's own body come from something in front of it, which
# may have passed the request on: only the documented bodies are a definite "not taken".
STATUS_FALLBACK: Mapping[int, OutcomeType] = {
    400: Rejected,
    401: AuthFailed,
    403: AuthFailed,
    404: AuthFailed,
    405: AuthFailed,
    409: Unknown,
    413: Rejected,
    422: Rejected,
    429: Throttled,
    451: Rejected,
}
QUOTA_ERRORS = {"daily_quota_exceeded": MAX_RETRY_AFTER, "monthly_quota_exceeded": MAX_RETRY_AFTER}


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx that carries an id."""
    body = json_body(response)
    name, provider_message_id = body.get("name"), body.get("id")
    if response.is_success and isinstance(provider_message_id, str) and 0 < len(provider_message_id) <= 200:
        return Accepted(provider_message_id)
    name = name if isinstance(name, str) else ""
    kind = ERROR_CODES.get((response.status_code, name)) or STATUS_FALLBACK.get(response.status_code, Unknown)
    return make_outcome(
        kind, describe(response, name, body.get("message")), response, default_retry_after=QUOTA_ERRORS.get(name)
    )


# Receipts. Signed the Svix way. ----------------------------------------------------------------------------

TOLERANCE = timedelta(seconds=300)  # either way; repeats are signed afresh, so an old timestamp is a replay

EVENT_TYPES: Mapping[str, ReceiptKind] = {
    "email.sent": ReceiptKind.SENT,
    "email.delivered": ReceiptKind.DELIVERED,
    "email.delivery_delayed": ReceiptKind.DEFERRED,
    "email.suppressed": ReceiptKind.FAILED,
    "email.failed": ReceiptKind.FAILED,
    "email.complained": ReceiptKind.COMPLAINED,
    "email.opened": ReceiptKind.OPENED,
    "email.clicked": ReceiptKind.CLICKED,
}
SUPPRESSIONS = {"Suppressed", "OnAccountSuppressionList"}


def parse_receipts(request: ReceiptRequest, credentials: ResendCredentials) -> list[Receipt]:
    """One receipt, or none for an event that says nothing about a delivery."""
    event_id = _verify_signature(request, credentials.webhook_secret)
    event = _object(request.body)
    data = event.get("data")
    kind = _event_type(event.get("type"), data)
    if kind is None or not isinstance(data, dict):
        return []
    tags = data.get("tags")
    recipients = data.get("to")
    receipt = Receipt(
        receipt_id=event_id,
        kind=kind,
        reference=_text(tags.get("ref")) if isinstance(tags, dict) else None,
        provider_message_id=_text(data.get("email_id")),
        recipient=_text(recipients[0]) if isinstance(recipients, list) and len(recipients) == 1 else None,
        occurred_at=_parse_time(event.get("created_at")),  # the message's own time is data.created_at
        detail=redact(_detail(data), limit=500),
    )
    return [receipt]


def _verify_signature(request: ReceiptRequest, secret: SecretStr | None) -> str:
    """The event's id, once the signature over id, timestamp and raw body holds and is fresh."""
    if secret is None:
        raise InvalidReceiptSignatureError("no webhook secret is configured, so nothing can be verified")
    event_id, stamp, signatures = (_header(request, name) for name in ("id", "timestamp", "signature"))
    if not re.fullmatch(r"[0-9]{1,12}", stamp):
        raise InvalidReceiptSignatureError("the timestamp is not a number")
    if abs(request.received_at.timestamp() - int(stamp)) > TOLERANCE.total_seconds():
        raise InvalidReceiptSignatureError("the timestamp is too far from now")
    expected = sign(secret.get_secret_value(), event_id, stamp, request.body).encode("ascii")
    offered = [entry.encode("utf-8", "replace") for entry in signatures.split(" ") if entry.startswith("v1,")]
    # No early exit: the time taken does not tell which entry matched.
    if not sum(hmac.compare_digest(entry, expected) for entry in offered):
        raise InvalidReceiptSignatureError("the signature does not fit")
    return event_id


def sign(secret: str, event_id: str, stamp: str, body: bytes) -> str:
    """The ``v1`` signature Resend puts on an event; the simulator signs with it as well."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise InvalidReceiptSignatureError("the configured webhook secret is not base64") from None
    signed = b".".join((event_id.encode("utf-8", "replace"), stamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, sha256)).decode("ascii")


def _header(request: ReceiptRequest, name: str) -> str:
    """Resend says ``svix-…``; ``webhook-…`` is the same thing in the Standard Webhooks spelling."""
    value = request.headers.get(f"svix-{name}") or request.headers.get(f"webhook-{name}")
    if not value:
        raise InvalidReceiptSignatureError(f"the header for the {name} is missing")
    return value


def _object(body: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _event_type(event: object, data: object) -> ReceiptKind | None:
    if event == "email.bounced":
        bounce = data.get("bounce") if isinstance(data, dict) else None
        return _bounce_kind(bounce if isinstance(bounce, dict) else {})
    return EVENT_TYPES.get(event) if isinstance(event, str) else None


def _bounce_kind(bounce: Mapping[str, Any]) -> ReceiptKind:
    if bounce.get("type") != "Permanent":
        return ReceiptKind.SOFT_BOUNCE
    return ReceiptKind.FAILED if bounce.get("subType") in SUPPRESSIONS else ReceiptKind.BOUNCED


def _detail(data: Mapping[str, Any]) -> str:
    """The event's own block in words: kind, sub kind, message, and the far server's diagnostic."""
    for name in ("bounce", "suppressed", "failed"):
        block = data.get(name)
        if isinstance(block, dict):
            words = [block.get(key) for key in ("type", "subType", "reason", "message")]
            codes = block.get("diagnosticCode") or []
            words += codes if isinstance(codes, list) else [codes]  # documented as a list, seen as a string
            return " ".join(word for word in words if isinstance(word, str))
    return ""


def _text(value: object) -> str | None:
    return value[:320] if isinstance(value, str) and value else None


def _parse_time(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


RESEND = Package(
    name="provider-resend",
    title="Resend",
    channels=(Channel.EMAIL,),
    credentials=ResendCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    idempotent=True,
    parse_receipts=parse_receipts,
)
