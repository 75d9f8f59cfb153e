"""Acme, an invented SMS provider: ``POST /messages`` in JSON, receipts signed with HMAC-SHA256."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from pydantic import Field, SecretStr

from sluice.model.message import Channel
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Throttled,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import (
    Credentials,
    DeliveryReceipt,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret
from sluice.providers.kit.error_table import ErrorTable
from sluice.providers.kit.requests import endpoint, post_json
from sluice.providers.kit.responses import identifier, json_object
from sluice.providers.kit.signatures import verify_hmac_sha256


class AcmeCredentials(Credentials):
    """One account."""

    api_key: HeaderSecret = Field(alias="apiKey", title="API key")
    webhook_secret: SecretStr | None = Field(default=None, alias="webhookSecret", title="Secret of the receipts")
    base_url: str = Field(default="https://api.acme.example", alias="baseUrl", pattern=BASE_URL, title="Address")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: AcmeCredentials) -> httpx.Request:
    """One text to one number."""
    fields = {"to": message.recipient, "text": message.content.text, "reference": message.reference}
    key = credentials.api_key.get_secret_value()
    return post_json(endpoint(credentials.base_url, "/messages"), fields, authorization=f"Bearer {key}")


# Responses -------------------------------------------------------------------------------------------------

ERROR_CODES: Mapping[str, Refusal] = {
    "unknown_number": RecipientRejected(Reason.UNKNOWN_RECIPIENT),
    "text_too_long": Declined(Reason.INVALID_CONTENT),
    "bad_key": AuthFailed(),
    "slow_down": Throttled(),
    "maintenance": ProviderFault(),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    **dict.fromkeys(range(400, 500), Declined(Reason.INVALID_CONTENT)),
    401: AuthFailed(),
    429: Throttled(),
}
_ERRORS = ErrorTable(ERROR_CODES, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 201 with an id."""
    body = json_object(response.content)
    message_id = identifier(body.get("id"))
    if response.status_code == 201 and message_id is not None:
        return Accepted(message_id)
    code = body.get("error")
    return _ERRORS.outcome(response, code if isinstance(code, str) else None)


# Receipts --------------------------------------------------------------------------------------------------

EVENT_TYPES: Mapping[str, EventType] = {"delivered": EventType.DELIVERED, "undelivered": EventType.BOUNCED}


def parse_webhook(request: WebhookRequest, credentials: AcmeCredentials, _fetched: Mapping[str, bytes]) -> WebhookReply:
    """One receipt, signed over the raw body."""
    verify_hmac_sha256(request.body, credentials.webhook_secret, request.headers.get("x-acme-signature", ""))
    body = json_object(request.body)
    status, message_id = body.get("status"), identifier(body.get("id"))
    if not isinstance(status, str) or status not in EVENT_TYPES or message_id is None:
        return WebhookReply()
    receipt = DeliveryReceipt(f"{message_id} {status}", EVENT_TYPES[status], provider_message_id=message_id)
    return WebhookReply([receipt])


ACME = Package(
    name="provider-acme",
    title="Acme SMS",
    channels=(Channel.SMS,),
    credentials=AcmeCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    docs_url="https://acme.example/docs",
    receipts=ReceiptSource.WEBHOOK,
)
