"""Termii SMS, ``/api/sms/send`` (https://developers.termii.com/messaging-api, read 2026-08).

No idempotency key, no field for our reference and no callback URL: receipts lead to the attempt by Termii's message id,
and their address is entered in Termii's dashboard. Errors have no codes; their texts decide.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha512
from typing import Any, Literal, Self

import httpx
from pydantic import Field, SecretStr, model_validator

from sluice.model.gsm7 import is_gsm7
from sluice.model.message import Channel, Sms
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import (
    Credentials,
    DeliveryReceipt,
    InboundMessage,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    UnsupportedMessageError,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.credentials import BASE_URL, WebhookToken
from sluice.providers.kit.error_table import fill
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import endpoint, post_json
from sluice.providers.kit.responses import (
    MAX_RETRY_AFTER,
    describe,
    exact_json_object,
    identifier,
    number_of,
    retry_after,
    text_of,
)
from sluice.providers.kit.signatures import json_sample, require_match, require_secret, verify_url_token, with_url_token

_SENDER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{1,9}[A-Za-z0-9]")


class TermiiCredentials(Credentials):
    """An account, its approved sender and its route."""

    api_key: SecretStr = Field(alias="apiKey", title="API key")
    sender_id: str = Field(alias="senderId", min_length=3, max_length=50, title="Sender ID or WhatsApp device")
    channel: Literal["generic", "dnd", "whatsapp", "voice"] = Field(default="generic", title="Route")
    base_url: str = Field(default="https://api.ng.termii.com", alias="baseUrl", pattern=BASE_URL, title="Address")
    webhook_secret: SecretStr | None = Field(default=None, alias="webhookSecret", title="Key of X-Termii-Signature")
    webhook_token: WebhookToken | None = Field(default=None, alias="webhookToken", title="Token in the receipt URL")
    signature_mode: Literal["enforce", "log"] = Field(default="enforce", alias="signatureMode", title="Signatures")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # A WhatsApp device has a name of its own form.
        if self.channel != "whatsapp" and not _SENDER_ID.fullmatch(self.sender_id):
            raise ValueError("senderId: 3 to 11 letters or digits")
        if self.signature_mode == "log" and self.webhook_token is None:
            raise ValueError("signatureMode: log needs webhookToken, because signatures no longer protect the receipts")
        return self


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: TermiiCredentials) -> httpx.Request:
    """One text to one number. The response to several has one id for all: receipts could not be distinguished."""
    if not isinstance(message.content, Sms):
        raise UnsupportedMessageError("Termii carries SMS only")
    text = message.content.text
    fields = {
        "api_key": credentials.api_key.get_secret_value(),
        "to": message.recipient.removeprefix("+"),
        "from": credentials.sender_id,
        "sms": text,
        "type": "voice" if credentials.channel == "voice" else "plain" if is_gsm7(text) else "unicode",
        "channel": credentials.channel,
    }
    return post_json(endpoint(credentials.base_url, "/api/sms/send"), fields)


# Responses -------------------------------------------------------------------------------------------------

_RECIPIENT = r"(phone number|[\"'`]to[\"'`]|\bto (field|number|parameter|is|must)\b|\bto\W*$)"
_NO_BALANCE = Declined(Reason.QUOTA, scope=Scope.ACCOUNT)
_SENDER = Declined(Reason.SENDER, scope=Scope.ACCOUNT)  # always the account's: no message names it

# A pattern of the message in lower case; the first that matches decides.
ERROR_TEXTS: Mapping[str, Refusal] = {
    r"account is not active": AuthFailed(),
    r"not set up on this route": AuthFailed(),
    r"invalid sender id": _SENDER,
    r"device not found": _SENDER,
    r"insufficient.*(balance|fund|credit)": _NO_BALANCE,
    r"(balance|fund|credit).*insufficient": _NO_BALANCE,
    r"reached the daily limit": Throttled(retry_after=MAX_RETRY_AFTER),
    r"unauthorized": AuthFailed(),
    rf"invalid.*{_RECIPIENT}": RecipientRejected(Reason.INVALID_ADDRESS),
    rf"{_RECIPIENT}.*invalid": RecipientRejected(Reason.INVALID_ADDRESS),
    rf"{_RECIPIENT}.*required": Declined(Reason.INVALID_CONTENT),
    rf"required.*{_RECIPIENT}": Declined(Reason.INVALID_CONTENT),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: Declined(Reason.INVALID_CONTENT),
    401: AuthFailed(),  # also for http instead of https, and a wrong path
    403: AuthFailed(),
    404: AuthFailed(),  # a wrong base URL
    405: AuthFailed(),  # likewise
    422: Declined(Reason.INVALID_CONTENT),
    429: Throttled(),
    503: ProviderFault(),
}


def classify(response: httpx.Response) -> Outcome:
    """Accepted by a 200 or 201 with a message id and no other ``code`` than "ok". A 200 can also carry an error."""
    body = exact_json_object(response.content)
    message_id = identifier(body.get("message_id_str")) or identifier(body.get("message_id"))
    code, words = str(body.get("code") or "ok"), text_of(body.get("message"), 1000) or ""
    if response.status_code in (200, 201) and message_id and code.casefold() == "ok":
        return Accepted(message_id, (message_id,))
    known = (refusal for pattern, refusal in ERROR_TEXTS.items() if re.search(pattern, words.lower()))
    by_status = None if response.is_success else STATUS_FALLBACK.get(response.status_code)
    return fill(next(known, None) or by_status or Unknown(), describe(response, words), retry_after(response))


# Receipts --------------------------------------------------------------------------------------------------

_DND = (EventType.BOUNCED, Reason.POLICY)  # the number is on the do-not-disturb register and the route is "generic"

# The status before " | ", case-folded.
EVENT_TYPES: Mapping[str, tuple[EventType, Reason | None]] = {
    "message sent": (EventType.SENT, None),
    "sent": (EventType.SENT, None),
    "delivered": (EventType.DELIVERED, None),
    "message failed": (EventType.SOFT_BOUNCE, Reason.NETWORK),  # documented cause: poor network
    "failed": (EventType.FAILED, Reason.OTHER),
    "expired": (EventType.SOFT_BOUNCE, Reason.EXPIRED),
    "dnd active on phone number": _DND,
    "rejected": _DND,
    "undelivered": (EventType.FAILED, Reason.UNREACHABLE),
    "undeliverable": (EventType.FAILED, Reason.UNREACHABLE),
}


def parse_webhook(
    request: WebhookRequest, credentials: TermiiCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """One event: a receipt, or a message to the account. ``sent_at`` has no zone and is not used."""
    note = _verify(request, credentials)
    event = exact_json_object(request.body)
    if _message_id(event) is None and isinstance(event.get("data"), dict):
        event = event["data"]
    message_id, kind, recipient = _message_id(event), event.get("type") or "outbound", number_of(event.get("receiver"))
    if kind == "inbound" and message_id and (sender := number_of(event.get("sender"))):
        return WebhookReply([InboundMessage(message_id, sender, text_of(event.get("message"), 4096) or "", recipient)])
    words = [text_of(event.get(name)) or "" for name in ("status", "messagestate")]
    status = next((word for word in map(_status, words) if word in EVENT_TYPES), None)
    if kind != "outbound" or message_id is None or status is None:
        return WebhookReply()
    event_type, reason = EVENT_TYPES[status]
    return WebhookReply(
        [
            DeliveryReceipt(
                receipt_id=f"{message_id}:{status}",
                type=event_type,
                provider_message_id=message_id,
                recipient=recipient,
                reason=reason,
                detail=redact(" ".join(filter(None, [words[0] or words[1], note])), limit=500),
            )
        ]
    )


def _verify(request: WebhookRequest, credentials: TermiiCredentials) -> str:
    """A note for the receipt's detail, once everything that is configured proves the origin.

    Which secret signs an account's webhooks is not documented: with ``signatureMode`` "log" the token alone decides,
    and each receipt says whether its signature would match.
    """
    secret, token = credentials.webhook_secret, credentials.webhook_token
    if token is not None:
        verify_url_token(request, token)
    if token is not None and secret is None:
        return ""
    key = require_secret(secret).encode()
    offered = request.headers.get("x-termii-signature", "").lower()
    expected = hmac.digest(key, request.body, sha512).hex()
    if credentials.signature_mode == "log":
        same = hmac.compare_digest(offered.encode("utf-8", "replace"), expected.encode())
        return f"(the signature {'matches' if same else 'does not match'} webhookSecret)"
    require_match([offered], [expected])
    return ""


def _message_id(event: Mapping[str, Any]) -> str | None:
    return identifier(event.get("message_id_str")) or identifier(event.get("message_id"))


def _status(words: str) -> str:
    return words.partition("|")[0].strip().casefold()


def sample(url: str, credentials: TermiiCredentials, at: datetime) -> WebhookRequest:
    """An event without a message, with everything that is configured: the signature, the token."""
    secret, token = credentials.webhook_secret, credentials.webhook_token
    if token is None:
        require_secret(secret)
    signature = hmac.digest(secret.get_secret_value().encode(), b"{}", sha512).hex() if secret else ""
    return json_sample(with_url_token(url, token) if token else url, at, x_termii_signature=signature)


TERMII = Package(
    name="provider-termii",
    title="Termii",
    channels=(Channel.SMS,),
    credentials=TermiiCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=sample,
    docs_url="https://developers.termii.com/messaging-api",
    receipts=ReceiptSource.WEBHOOK,
    segments=True,
)
