"""Resend, POST /emails (https://resend.com/docs, OpenAPI 1.5.0, read 2026-08).

Takes an idempotency key for 24 hours: a retry with the same key and the same bytes gets the stored response. The body
is therefore serialised from our own fields in one fixed order.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import Field, SecretStr

from sluice.model.address import parse_address
from sluice.model.message import Attachment, Channel, Email
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, Refusal, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import (
    Credentials,
    DeliveryReceipt,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    UnsupportedMessageError,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.bounces import bounce_reason
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret
from sluice.providers.kit.error_table import ErrorTable
from sluice.providers.kit.mime import unsubscribe_headers
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import endpoint, post_json
from sluice.providers.kit.responses import MAX_RETRY_AFTER, json_object, object_of, text_of
from sluice.providers.kit.signatures import svix_sample, verify_svix
from sluice.providers.kit.times import parse_iso_time

_PLAIN_NAME = re.compile(r"[\w !#$%&'*+/=?^`{|}~-]+")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")


class ResendCredentials(Credentials):
    """An API key; the webhook secret is needed for receipts only."""

    api_key: HeaderSecret = Field(alias="apiKey", title="API key")
    webhook_secret: SecretStr | None = Field(default=None, alias="webhookSecret", title="Signing secret (whsec_…)")
    base_url: str = Field(default="https://api.resend.com", alias="baseUrl", pattern=BASE_URL, title="Address")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: ResendCredentials) -> httpx.Request:
    """One request for the whole envelope."""
    mail = message.content
    if not isinstance(mail, Email):
        raise UnsupportedMessageError("Resend carries e-mail only")
    fields = {
        "from": _address(mail.sender),
        "to": [_address(to) for to in mail.to],
        "cc": [_address(cc) for cc in mail.cc] or None,
        "bcc": [_address(bcc) for bcc in mail.bcc] or None,
        "reply_to": _address(mail.reply_to) if mail.reply_to else None,
        "subject": mail.subject,
        "html": mail.html,
        "text": mail.text,
        "attachments": [_attachment(file, message.attachments) for file in mail.attachments] or None,
        "headers": {"X-Sluice-Message-Id": message.message_id, **unsubscribe_headers(mail)},
        "tags": [_tag("msg", message.message_id), _tag("ref", message.reference)],
    }
    url, key = endpoint(credentials.base_url, "/emails"), credentials.api_key.get_secret_value()
    return post_json(url, fields, authorization=f"Bearer {key}", idempotency_key=message.reference)


def _address(text: str) -> str:
    """As written, but with the domain in punycode: Resend takes no other form."""
    address = parse_address(text)
    if not address.ascii:
        raise UnsupportedMessageError("Resend takes no address with characters beyond ASCII before the @")
    if not address.name:
        return address.bare
    if _PLAIN_NAME.fullmatch(address.name):
        return f"{address.name} <{address.bare}>"
    name = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{address.bare}>'


def _attachment(file: Attachment, contents: Mapping[str, bytes]) -> dict[str, str]:
    content = base64.b64encode(contents[file.sha256]).decode("ascii")
    fields = {"content": content, "filename": file.filename, "content_type": file.content_type}
    return fields if file.content_id is None else fields | {"content_id": file.content_id}


def _tag(name: str, value: str) -> dict[str, str]:
    """Tags take ASCII letters, digits, ``_`` and ``-`` only, which our ids are made of."""
    if not _TAG.fullmatch(value):
        raise UnsupportedMessageError("one of our ids is not valid in a tag")
    return {"name": name, "value": value}


# Responses. Decided on status and ``name``, never on the words, which change. ------------------------------

_INVALID = Declined(Reason.INVALID_CONTENT)
_SENDER = Declined(Reason.SENDER)  # the sender is always the message's own

ERROR_CODES: Mapping[tuple[int, str], Refusal] = {
    **dict.fromkeys(((400, "validation_error"), (400, "invalid_idempotency_key")), _INVALID),
    (401, "missing_api_key"): AuthFailed(),
    (401, "restricted_api_key"): _SENDER,  # the key is limited to another domain
    (403, "invalid_api_key"): AuthFailed(),
    (403, "suspended_api_key"): AuthFailed(),
    (403, "invalid_permission"): AuthFailed(),
    (403, "validation_error"): _SENDER,  # the sender's domain is not verified, or a test sender
    (403, "invalid_from_address"): _SENDER,
    (422, "invalid_from_address"): _SENDER,
    (404, "not_found"): AuthFailed(),  # a wrong base URL
    (405, "method_not_allowed"): AuthFailed(),
    # The key was used within 24 h for other bytes: an earlier send under it took place.
    (409, "invalid_idempotent_request"): Unknown(),
    # Our own earlier request is in progress: retry with the same key, here.
    (409, "concurrent_idempotent_requests"): Unknown(),
    (422, "missing_required_field"): _INVALID,
    (422, "missing_required_parameter"): _INVALID,
    (422, "invalid_parameter"): _INVALID,
    (422, "invalid_attachment"): _INVALID,
    (422, "validation_error"): _INVALID,
    (422, "invalid_access"): AuthFailed(),
    (422, "invalid_region"): AuthFailed(),
    (429, "rate_limit_exceeded"): Throttled(),
    (429, "daily_quota_exceeded"): Throttled(retry_after=MAX_RETRY_AFTER),
    (429, "monthly_quota_exceeded"): Throttled(retry_after=MAX_RETRY_AFTER),
    (451, "security_error"): Declined(Reason.POLICY),
    (500, "application_error"): ProviderFault(),
    (500, "internal_server_error"): ProviderFault(),
    (503, "service_unavailable"): ProviderFault(),
}
# For an unknown name. 500 and 503 without Resend's own body come from something in front of it, which may have
# passed the request on: only the documented bodies are a definite "not taken".
STATUS_FALLBACK: Mapping[int, Refusal] = {
    **dict.fromkeys((400, 422), _INVALID),
    **dict.fromkeys((401, 403, 404, 405), AuthFailed()),
    409: Unknown(),
    413: Declined(Reason.TOO_LARGE),
    429: Throttled(),
    451: Declined(Reason.POLICY),
}
_ERRORS = ErrorTable(ERROR_CODES, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx that carries an id."""
    body = json_object(response.content)
    message_id = body.get("id")
    if response.is_success and isinstance(message_id, str) and 0 < len(message_id) <= 200:
        return Accepted(message_id, receipt_ids=(message_id,))  # not every event repeats the tags
    name = text_of(body.get("name")) or ""
    return _ERRORS.outcome(response, (response.status_code, name), body.get("message"))


# Receipts. Signed the Svix way. ----------------------------------------------------------------------------

EVENT_TYPES: Mapping[str, tuple[EventType, Reason | None]] = {
    "email.sent": (EventType.SENT, None),
    "email.delivered": (EventType.DELIVERED, None),
    "email.delivery_delayed": (EventType.DEFERRED, None),
    "email.suppressed": (EventType.FAILED, Reason.BLOCKED),
    "email.failed": (EventType.FAILED, Reason.OTHER),
    "email.complained": (EventType.COMPLAINED, Reason.COMPLAINT),
    "email.opened": (EventType.OPENED, None),
    "email.clicked": (EventType.CLICKED, None),
}
# Type and subtype of a bounce; a type that is not here is as good as Transient.
BOUNCE_TYPES: Mapping[tuple[str, str], tuple[EventType, Reason]] = {
    ("Permanent", "Suppressed"): (EventType.FAILED, Reason.BLOCKED),
    ("Permanent", "OnAccountSuppressionList"): (EventType.FAILED, Reason.BLOCKED),
}


def parse_webhook(
    request: WebhookRequest, credentials: ResendCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """One receipt, or none for an event that says nothing about a delivery."""
    event_id = verify_svix(request, credentials.webhook_secret)
    event = json_object(request.body)
    data = event.get("data")
    found = _event_type(event.get("type"), data)
    if found is None or not isinstance(data, dict):
        return WebhookReply()
    tags, recipients = data.get("tags"), data.get("to")
    receipt = DeliveryReceipt(
        receipt_id=event_id,
        type=found[0],
        reference=text_of(tags.get("ref")) if isinstance(tags, dict) else None,
        provider_message_id=text_of(data.get("email_id")),
        recipient=text_of(recipients[0]) if isinstance(recipients, list) and len(recipients) == 1 else None,
        occurred_at=parse_iso_time(event.get("created_at")),  # the message's own time is data.created_at
        reason=found[1],
        detail=redact(_detail(data), limit=500),
    )
    return WebhookReply([receipt])


def _event_type(event: object, data: object) -> tuple[EventType, Reason | None] | None:
    if event != "email.bounced":
        return EVENT_TYPES.get(event) if isinstance(event, str) else None
    bounce = object_of(data, "bounce") if isinstance(data, dict) else {}
    kind, subtype = str(bounce.get("type")), str(bounce.get("subType"))
    default = EventType.BOUNCED if kind == "Permanent" else EventType.SOFT_BOUNCE
    cause = bounce_reason(*_diagnosis(bounce), bounce.get("message"), subtype=subtype)
    return BOUNCE_TYPES.get((kind, subtype), (default, cause))


def _detail(data: Mapping[str, Any]) -> str:
    """The event's own block in words: type, subtype, message, and the receiving server's diagnostic."""
    for name in ("bounce", "suppressed", "failed"):
        block = data.get(name)
        if isinstance(block, dict):
            words = [*(block.get(key) for key in ("type", "subType", "reason", "message")), *_diagnosis(block)]
            return " ".join(word for word in words if isinstance(word, str))
    return ""


def _diagnosis(block: Mapping[str, Any]) -> list[object]:
    """What the receiving server said: documented as a list, seen as a string."""
    codes = block.get("diagnosticCode") or []
    return codes if isinstance(codes, list) else [codes]


RESEND = Package(
    name="provider-resend",
    title="Resend",
    channels=(Channel.EMAIL,),
    credentials=ResendCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=svix_sample,
    docs_url="https://resend.com/docs/api-reference/emails/send-email",
    receipts=ReceiptSource.WEBHOOK,
    idempotent=True,
    max_recipients=50,
    supports_attachments=True,
    supports_html=True,
)
