"""SendGrid, POST /v3/mail/send (https://www.twilio.com/docs/sendgrid/api-reference/mail-send, read 2026-08).

No idempotency key. The attempt's reference is a custom argument, which every event repeats at its top level.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal

import httpx
from pydantic import Field

from sluice.model.address import Address
from sluice.model.media_type import MediaType
from sluice.model.message import Attachment, Channel, Email
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, Refusal, Throttled
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import (
    Credentials,
    DeliveryReceipt,
    OptOut,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    UnsupportedMessageError,
    WebhookEvent,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.bounces import bounce_reason
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret, P256PublicKey
from sluice.providers.kit.error_table import ErrorTable, find_text
from sluice.providers.kit.mail_fields import ascii_address, base64_content, texts_of
from sluice.providers.kit.mime import place_files, unsubscribe_headers
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import endpoint, post_json
from sluice.providers.kit.responses import MAX_RETRY_AFTER, dump_json, json_list, json_object, reset_wait, text_of
from sluice.providers.kit.signatures import require_fresh, verify_p256
from sluice.providers.kit.times import parse_unix_time

_HOSTS = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}
RECEIPT_LIFETIME = timedelta(hours=25)  # SendGrid repeats for 24 hours, perhaps under the first timestamp
_MESSAGE_ID = re.compile(r"[!-~]{1,200}")
# What ``sg_message_id`` adds to the id of the response. Old ids contain dots themselves.
_ID_SUFFIX = re.compile(r"\.(?:recvd|filter|f\d)[^/]*\Z")


class SendgridCredentials(Credentials):
    """An API key with the permission "Mail Send"; the public key is needed for receipts only."""

    api_key: HeaderSecret = Field(alias="apiKey", title="API key")
    region: Literal["global", "eu"] = Field(default="global", title="Region of the account")
    webhook_public_key: P256PublicKey | None = Field(
        default=None, alias="webhookPublicKey", title="Verification key of the event webhook"
    )
    base_url: str | None = Field(default=None, alias="baseUrl", pattern=BASE_URL, title="Address")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: SendgridCredentials) -> httpx.Request:
    """One request for the whole envelope."""
    mail = message.content
    if not isinstance(mail, Email):
        raise UnsupportedMessageError("SendGrid carries e-mail only")
    files = list(place_files(mail))
    texts = [{"type": kind, "value": text} for kind, text in texts_of(mail)]
    ours = {"sluice_ref": message.reference, "sluice_msg": message.message_id}
    fields = {
        "personalizations": [{**_recipients(mail), "custom_args": ours}],
        "from": _mailbox(ascii_address(mail.sender)),
        "reply_to": _mailbox(ascii_address(mail.reply_to)) if mail.reply_to else None,
        "subject": mail.subject,
        "content": texts + [_invitation(message, *file) for file in files if file[2] == "alternative"],
        "attachments": [_attachment(message, *file) for file in files if file[2] != "alternative"] or None,
        "headers": {"X-Sluice-Message-Id": message.message_id, **unsubscribe_headers(mail)},
    }
    url = endpoint(credentials.base_url or _HOSTS[credentials.region], "/v3/mail/send")
    return post_json(url, fields, authorization=f"Bearer {credentials.api_key.get_secret_value()}")


def _recipients(mail: Email) -> dict[str, list[dict[str, str]]]:
    """``to``, ``cc`` and ``bcc`` without repeats, which SendGrid refuses, and without empty lists."""
    seen: set[str] = set()
    found: dict[str, list[dict[str, str]]] = {}
    for field, texts in (("to", mail.to), ("cc", mail.cc), ("bcc", mail.bcc)):
        for address in map(ascii_address, texts):
            if address.bare.lower() not in seen:
                seen.add(address.bare.lower())
                # SendGrid takes no comma and no semicolon in the name of a recipient.
                name = re.sub(r"[\s,;]+", " ", address.name).strip()
                found.setdefault(field, []).append(_mailbox(address._replace(name=name)))
    return found


def _mailbox(address: Address) -> dict[str, str]:
    return {"email": address.bare, "name": address.name} if address.name else {"email": address.bare}


def _invitation(message: OutboundMessage, file: Attachment, kind: MediaType, _place: str) -> dict[str, str]:
    """A further version of the text: as an attachment it would be a file without buttons."""
    try:
        value = message.attachments[file.sha256].decode()
    except UnicodeDecodeError:
        raise UnsupportedMessageError("SendGrid takes an invitation in UTF-8 only") from None
    return {"type": f"text/calendar; method={kind.parameter('method')}", "value": value}


def _attachment(message: OutboundMessage, file: Attachment, kind: MediaType, place: str) -> dict[str, str]:
    inline = {"disposition": "inline", "content_id": file.content_id or ""} if place == "related" else {}
    content = base64_content(file, message.attachments)
    return {"content": content, "filename": file.filename, "type": str(kind), "disposition": "attachment", **inline}


# Responses. SendGrid has no codes: the status decides, then the words. -------------------------------------

_SENDER = Declined(Reason.SENDER)  # the sender is always the message's own
# Not RecipientRejected: the envelope can have other recipients, and what SendGrid takes for an address is its own rule.
_ADDRESS = Declined(Reason.INVALID_ADDRESS)

# Part of "field: message" of an error, in lower case; "" is any. 500 and 503 without SendGrid's own body come from
# something in front of it, which may have passed the request on.
ERROR_TEXTS: Mapping[tuple[int, str], Refusal] = {
    (400, "does not contain a valid address"): _ADDRESS,
    (400, "limit of 1000 total recipients"): Declined(Reason.TOO_LARGE),
    (400, "from: "): _SENDER,
    (400, "from.email: "): _SENDER,
    (400, "from.email: does not contain a valid address"): _SENDER,
    (400, "the from email does not contain a valid address"): _SENDER,
    (400, "does not match a verified sender identity"): _SENDER,
    (401, "maximum credits exceeded"): Throttled(retry_after=MAX_RETRY_AFTER),
    (403, "does not match a verified sender identity"): _SENDER,
    (403, "too many bad requests"): Throttled(retry_after=MAX_RETRY_AFTER),  # a temporary block
    (500, ""): ProviderFault(),
    (503, ""): ProviderFault(),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: Declined(Reason.INVALID_CONTENT),
    401: AuthFailed(),
    403: AuthFailed(),
    404: AuthFailed(),  # a wrong base URL
    405: AuthFailed(),
    406: AuthFailed(),
    413: Declined(Reason.TOO_LARGE),
    415: Declined(Reason.INVALID_CONTENT),
    429: Throttled(),
    451: AuthFailed(),  # the data must stay in another region
}
_ERRORS = ErrorTable(ERROR_TEXTS, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by an empty 202 with an id. 200 is the answer of the sandbox mode, which is never asked for."""
    message_id = response.headers.get("x-message-id", "")
    if response.status_code == 202 and not response.content.strip() and _MESSAGE_ID.fullmatch(message_id):
        return Accepted(message_id, receipt_ids=(message_id,))
    words = "; ".join(_errors(json_object(response.content)))
    row = find_text(ERROR_TEXTS, response.status_code, words) if words else None
    return _ERRORS.outcome(response, row, words, wait=reset_wait(response) if response.status_code == 429 else None)


def _errors(body: Mapping[str, Any]) -> Iterator[str]:
    """``field: message`` of every error."""
    errors = body.get("errors")
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict) and (message := text_of(error.get("message"), 500)):
            yield f"{text_of(error.get('field')) or ''}: {message}".removeprefix(": ")


# Receipts. A batch of events, signed as a whole. -----------------------------------------------------------

EVENT_TYPES: Mapping[str, tuple[EventType, Reason | None]] = {
    "processed": (EventType.SENT, None),
    "deferred": (EventType.DEFERRED, None),
    "delivered": (EventType.DELIVERED, None),
    "bounce": (EventType.BOUNCED, Reason.OTHER),
    "dropped": (EventType.FAILED, Reason.OTHER),
    "spamreport": (EventType.COMPLAINED, Reason.COMPLAINT),
    "open": (EventType.OPENED, None),
    "click": (EventType.CLICKED, None),
}
# Type of a bounce, or reason of a drop.
BOUNCE_TYPES: Mapping[tuple[str, str], tuple[EventType, Reason]] = {
    ("bounce", "blocked"): (EventType.SOFT_BOUNCE, Reason.OTHER),
    ("dropped", "bounced address"): (EventType.FAILED, Reason.BLOCKED),  # on SendGrid's list of earlier bounces
    ("dropped", "spam reporting address"): (EventType.FAILED, Reason.COMPLAINT),
    ("dropped", "unsubscribed address"): (EventType.FAILED, Reason.UNSUBSCRIBED),
    ("dropped", "invalid"): (EventType.FAILED, Reason.INVALID_ADDRESS),
    ("dropped", "spam content"): (EventType.FAILED, Reason.SPAM),
    ("dropped", "invalid smtpapi header"): (EventType.FAILED, Reason.INVALID_CONTENT),
    ("dropped", "recipient list over package quota"): (EventType.FAILED, Reason.QUOTA),
}
_OPT_OUTS = frozenset({"unsubscribe", "group_unsubscribe"})


def parse_webhook(
    request: WebhookRequest, credentials: SendgridCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """Every event of the batch that says something about a message."""
    timestamp = request.headers.get("x-twilio-email-event-webhook-timestamp", "")
    require_fresh(timestamp, request.received_at, RECEIPT_LIFETIME)
    signature = request.headers.get("x-twilio-email-event-webhook-signature", "")
    verify_p256(credentials.webhook_public_key, signature, timestamp.encode("ascii") + request.body)
    return WebhookReply([found for event in json_list(request.body) for found in _events(event)])


def _events(event: Mapping[str, Any]) -> Iterator[WebhookEvent]:
    kind, recipient = text_of(event.get("event")) or "", text_of(event.get("email"))
    sent, at = text_of(event.get("sg_message_id")) or "", parse_unix_time(event.get("timestamp"))
    if kind in _OPT_OUTS and recipient:
        yield OptOut(recipient, occurred_at=at)
    if kind not in EVENT_TYPES:
        return
    words = [word for name in ("type", "status", "reason", "response") if (word := text_of(event.get(name), 500))]
    detail = (text_of(event.get("type" if kind == "bounce" else "reason")) or "").lower()
    type_, reason = BOUNCE_TYPES.get((kind, detail), EVENT_TYPES[kind])
    yield DeliveryReceipt(
        receipt_id=text_of(event.get("sg_event_id")) or f"{kind}:{sent}:{recipient}:{event.get('timestamp')}",
        type=type_,
        reference=text_of(event.get("sluice_ref")),
        provider_message_id=_ID_SUFFIX.sub("", sent) or None,
        recipient=recipient,
        occurred_at=at,
        reason=bounce_reason(*words) if kind == "bounce" else reason,
        detail=redact(" ".join(words), limit=500),
        payload=dump_json(event),
    )


SENDGRID = Package(
    name="provider-sendgrid",
    title="SendGrid",
    channels=(Channel.EMAIL,),
    credentials=SendgridCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    docs_url="https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send",
    receipts=ReceiptSource.WEBHOOK,
    max_recipients=1000,
    supports_attachments=True,
    supports_html=True,
)
