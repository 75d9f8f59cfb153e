"""Mailgun, POST /v3/<domain>/messages (https://documentation.mailgun.com, OpenAPI of 2026-07-09).

No idempotency key. The attempt's reference is a variable of the message, which every webhook but late bounces repeats.
A webhook's signature covers a timestamp and a token and not the event: the endpoint accepts a token for one body only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal

import httpx
from pydantic import Field, SecretStr

from sluice.model.address import parse_address
from sluice.model.message import Channel, Email
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, Refusal, Scope, Throttled
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters._mailgun import sample, verify
from sluice.providers.contract import (
    Credentials,
    DeliveryReceipt,
    OptOut,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    UnsupportedMessageError,
    WebhookAnswer,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.bounces import bounce_reason
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret
from sluice.providers.kit.error_table import ErrorTable, find_text, rows
from sluice.providers.kit.mail_fields import mailbox, require_ascii, texts_of
from sluice.providers.kit.mime import place_files, unsubscribe_headers, write_mail
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import basic, endpoint, post_multipart
from sluice.providers.kit.responses import (
    clamp,
    identifier,
    json_object,
    object_of,
    reset_wait,
    seconds,
    text_of,
)
from sluice.providers.kit.times import parse_http_date, parse_unix_time

_HOSTS = {"us": "https://api.mailgun.net", "eu": "https://api.eu.mailgun.net"}
_QUOTES = re.compile(r'["\\\x00-\x1f]')  # written differently in the name of a form's file
_OK = WebhookAnswer()  # Mailgun repeats after every other 2xx
_TRY_AGAIN = re.compile(r"try again after (?:(\d+) seconds|(.{10,40}))", re.IGNORECASE)


class MailgunCredentials(Credentials):
    """A key and the domain that it sends from; the signing key, which is another one, is needed for receipts only."""

    api_key: HeaderSecret = Field(alias="apiKey", title="API key or sending key")
    domain: str = Field(pattern=r"^[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,9}$", title="Sending domain")
    region: Literal["us", "eu"] = Field(default="us", title="Region of the domain")
    webhook_signing_key: SecretStr | None = Field(default=None, alias="webhookSigningKey", title="Webhook signing key")
    base_url: str | None = Field(default=None, alias="baseUrl", pattern=BASE_URL, title="Address")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: MailgunCredentials) -> httpx.Request:
    """One request for the whole envelope: the parts of the mail, or the mail as MIME where the parts lose something."""
    mail = message.content
    if not isinstance(mail, Email):
        raise UnsupportedMessageError("Mailgun carries e-mail only")
    require_ascii(mail)
    fields = [("v:ref", message.reference), ("v:msg", message.message_id)]
    if _needs_mime(mail):
        content = write_mail(mail, message_id=message.message_id, date=message.created_at, contents=message.attachments)
        path, files = "messages.mime", [("message", ("mail.eml", content, "message/rfc822"))]
        fields += (("to", parse_address(text).bare) for text in (*mail.to, *mail.cc, *mail.bcc))
    else:
        path, files = "messages", list(_files(mail, message.attachments))
        fields += [*_parts(mail), ("h:X-Sluice-Message-Id", message.message_id)]
        fields += ((f"h:{name}", value) for name, value in unsubscribe_headers(mail).items())
    url = endpoint(credentials.base_url or _HOSTS[credentials.region], f"/v3/{credentials.domain}/{path}")
    return post_multipart(url, fields, files, authorization=basic("api", credentials.api_key.get_secret_value()))


def _needs_mime(mail: Email) -> bool:
    """An invitation is a version of the text, and quotes in names do not survive a form."""
    names = [file.filename + (file.content_id or "") for file in mail.attachments]
    return any(place == "alternative" for _, _, place in place_files(mail)) or any(map(_QUOTES.search, names))


def _parts(mail: Email) -> list[tuple[str, str]]:
    mailboxes = {"from": (mail.sender,), "to": mail.to, "cc": mail.cc, "bcc": mail.bcc}
    mailboxes["h:Reply-To"] = (mail.reply_to,) if mail.reply_to else ()
    fields = [(name, mailbox(parse_address(text))) for name, texts in mailboxes.items() for text in texts]
    texts = [({"text/plain": "text", "text/html": "html"}[kind], text) for kind, text in texts_of(mail)]
    return [*fields, ("subject", mail.subject), *texts]


def _files(mail: Email, contents: Mapping[str, bytes]) -> Iterator[tuple[str, tuple[str, bytes, str]]]:
    """The name of an inline file is its content id."""
    for file, kind, place in place_files(mail):
        field, name = ("inline", file.content_id) if place == "related" else ("attachment", file.filename)
        yield field, (name or "", contents[file.sha256], str(kind))


# Responses. Mailgun has no codes: the status decides, then the words. --------------------------------------

_LARGE = Declined(Reason.TOO_LARGE)

# Part of the message of an error, in lower case; "" is any. 402, 500 and 503 without Mailgun's own words come from
# something in front of it, which may have passed the request on.
ERROR_TEXTS: Mapping[tuple[int, str], Refusal] = {
    # Not RecipientRejected: the envelope can have other recipients, and what an address is, is Mailgun's own rule.
    (400, "parameter is not a valid address"): Declined(Reason.INVALID_ADDRESS),
    (400, "from parameter is not a valid address"): Declined(Reason.SENDER),
    (400, "'from' parameter is not a valid address"): Declined(Reason.SENDER),
    (400, "too many recipients"): _LARGE,
    (400, "limited to 16 kb total"): _LARGE,
    (400, "is not allowed to send"): AuthFailed(),  # the domain: not verified, of a free account, not activated
    (400, "is not a valid secondary dkim domain name"): AuthFailed(),
    **rows(ProviderFault(), (402, ""), (500, ""), (503, "")),
    (403, "not allowed to send large batches"): Declined(Reason.REPUTATION, scope=Scope.ACCOUNT),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: Declined(Reason.INVALID_CONTENT),
    401: AuthFailed(),  # also the right key in another region
    403: AuthFailed(),
    404: AuthFailed(),  # the domain, in this region
    413: _LARGE,
    429: Throttled(),
}
_ERRORS = ErrorTable(ERROR_TEXTS, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 200 with an id that says that the message is queued."""
    body = json_object(response.content)
    words, message_id = text_of(body.get("message"), 1000) or "", (identifier(body.get("id")) or "").strip("<>")
    if response.status_code == 200 and message_id and words.startswith("Queued"):
        return Accepted(message_id, receipt_ids=(message_id,))
    if response.status_code == 200 and b"Mailgun Magnificent API" in response.content[:200]:
        return AuthFailed("200 the address is not that of the API")  # a greeting: nothing was read
    row = find_text(ERROR_TEXTS, response.status_code, words) if words else None
    return _ERRORS.outcome(response, row, words, wait=_wait(response, words))


def _wait(response: httpx.Response, words: str) -> timedelta | None:
    """When to come back: by header, by a number of seconds in the words, or by a date in them."""
    found, now = _TRY_AGAIN.search(words), parse_http_date(response.headers.get("date", ""))
    if (wait := reset_wait(response)) is None and found is not None:
        then = parse_http_date(found[2] or "")
        wait = seconds(found[1]) if found[1] else then - now if then and now else None
    return None if wait is None else clamp(wait)


# Receipts. One event for each request. ---------------------------------------------------------------------

EVENT_TYPES: Mapping[str, tuple[EventType, Reason | None]] = {
    "accepted": (EventType.SENT, None),
    "delivered": (EventType.DELIVERED, None),
    "rejected": (EventType.FAILED, Reason.POLICY),
    "complained": (EventType.COMPLAINED, Reason.COMPLAINT),
    "opened": (EventType.OPENED, None),
    "clicked": (EventType.CLICKED, None),
}
# Reason or code of a permanent failure; every other is a bounce.
BOUNCE_TYPES: Mapping[str, tuple[EventType, Reason]] = {
    "suppress-bounce": (EventType.FAILED, Reason.BLOCKED),
    "suppress-complaint": (EventType.FAILED, Reason.COMPLAINT),
    "suppress-unsubscribe": (EventType.FAILED, Reason.UNSUBSCRIBED),
    "605": (EventType.FAILED, Reason.BLOCKED),
    "607": (EventType.FAILED, Reason.COMPLAINT),
    "old": (EventType.SOFT_BOUNCE, Reason.EXPIRED),
}


def parse_webhook(request: WebhookRequest, credentials: MailgunCredentials, _: Mapping[str, bytes]) -> WebhookReply:
    """One event, and the token of its signature, which stands for this body only."""
    body = json_object(request.body)
    token = verify(object_of(body, "signature"), request, credentials.webhook_signing_key)
    event = object_of(body, "event-data")
    kind, headers = text_of(event.get("event")), object_of(object_of(event, "message"), "headers")
    recipient, at = text_of(event.get("recipient")), parse_unix_time(event.get("timestamp"))
    if kind == "unsubscribed" and recipient:
        return WebhookReply([OptOut(recipient, occurred_at=at)], _OK, token=token)
    found = _failure(event) if kind == "failed" else EVENT_TYPES.get(kind or "")
    if found is None or object_of(event, "client-info").get("bot"):  # a machine opens and clicks everything
        return WebhookReply([], _OK, token=token)
    event_id = text_of(event.get("id"))  # unique within a day
    receipt = DeliveryReceipt(
        receipt_id=f"{event_id}:{at:%Y-%m-%d}" if event_id and at else token,
        type=found[0],
        reference=text_of(object_of(event, "user-variables").get("ref")),
        provider_message_id=(text_of(headers.get("message-id")) or "").strip("<>") or None,
        recipient=recipient or text_of(headers.get("to")),
        occurred_at=at,
        reason=found[1],
        detail=redact(" ".join(_words(event)), limit=500),
    )
    return WebhookReply([receipt], _OK, token=token)


def _failure(event: Mapping[str, Any]) -> tuple[EventType, Reason | None] | None:
    status = object_of(event, "delivery-status")
    if event.get("severity") == "temporary":
        return EventType.DEFERRED, None
    reason, code = text_of(event.get("reason")) or "", str(status.get("code"))
    known = BOUNCE_TYPES.get(code) or BOUNCE_TYPES.get(reason)
    if known is None and reason.startswith("suppress-"):
        return EventType.FAILED, Reason.BLOCKED
    permanent = code.startswith("5") or str(status.get("enhanced-code")).startswith("5")
    return known or (EventType.BOUNCED if permanent else EventType.SOFT_BOUNCE, bounce_reason(*_words(event)))


def _words(event: Mapping[str, Any]) -> list[str]:
    status = object_of(event, "delivery-status")
    said = [event.get("severity"), event.get("reason"), object_of(event, "reject").get("reason")]
    said += (status.get(name) for name in ("code", "enhanced-code", "message", "description"))
    return [str(word)[:300] for word in said if isinstance(word, str | int) and word]


MAILGUN = Package(
    name="provider-mailgun",
    title="Mailgun",
    channels=(Channel.EMAIL,),
    credentials=MailgunCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=sample,
    docs_url="https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages",
    receipts=ReceiptSource.WEBHOOK,
    max_recipients=1000,
    supports_attachments=True,
    supports_html=True,
)
