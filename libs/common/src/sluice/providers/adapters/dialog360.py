"""WhatsApp through 360dialog's hosting of Meta's Cloud API (waba-v2.360dialog.io, read 2026-08).

Bodies, statuses and most errors are Meta's (kit/whatsapp.py). The API key belongs to one number and selects it.
360dialog's own errors have no code and no documented form: their words decide, wherever in the body they are.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

import httpx
from pydantic import Field, SecretStr

from sluice.model.message import Channel
from sluice.model.outcome import AuthFailed, Declined, Outcome, ProviderFault, Refusal, Scope, Throttled
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import (
    Credentials,
    InvalidReceiptSignatureError,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit import whatsapp
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret, WebhookToken
from sluice.providers.kit.error_table import ErrorTable
from sluice.providers.kit.requests import endpoint, post_json
from sluice.providers.kit.responses import json_object
from sluice.providers.kit.signatures import json_sample, require_match, require_secret, verify_url_token, with_url_token
from sluice.providers.kit.whatsapp import (
    ERROR_CODES,
    accepted,
    code_of,
    digits_of,
    error_of,
    message_body,
    read_events,
    words_of,
)


class Dialog360Credentials(Credentials):
    """One number. Webhooks to a partner's URL are signed with its platform secret, all others carry a token."""

    api_key: HeaderSecret = Field(alias="apiKey", title="API key of the number")
    platform_secret: SecretStr | None = Field(
        default=None, alias="platformSecret", title="Platform secret of a partner"
    )
    webhook_token: WebhookToken | None = Field(default=None, alias="webhookToken", title="Token in the receipt URL")
    base_url: str = Field(default="https://waba-v2.360dialog.io", alias="baseUrl", pattern=BASE_URL, title="Address")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: Dialog360Credentials) -> httpx.Request:
    """One template or text to one number, which is written without a plus sign."""
    return post_json(
        endpoint(credentials.base_url, "/messages"),
        message_body(message, to=digits_of(message.recipient)),
        d360_api_key=credentials.api_key.get_secret_value(),
    )


# Responses -------------------------------------------------------------------------------------------------

# Part of the body, in lower case. 400 is also the status of a disabled account and of a rate.
ERROR_TEXTS: Mapping[tuple[int, str], Refusal] = {
    (400, "has been disabled"): AuthFailed(),
    (400, "exceeded the endpoint rate limit"): Throttled(retry_after=timedelta(seconds=2)),
    (400, "lack of payment"): Declined(Reason.QUOTA, scope=Scope.ACCOUNT),
    (401, "invalid api_key"): AuthFailed(),
    (401, "invalid api key"): AuthFailed(),
    (403, "endpoint is blocked"): AuthFailed(),
    (403, "permission denied for partner"): AuthFailed(),
    (502, "whatsapp for business api not available"): ProviderFault(),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    **dict.fromkeys(range(400, 500), Declined(Reason.INVALID_CONTENT)),
    **dict.fromkeys((401, 402, 403), AuthFailed()),
    429: Throttled(),
}
_CODES = ErrorTable(ERROR_CODES, {})
_TEXTS = ErrorTable(ERROR_TEXTS, STATUS_FALLBACK)
# A 5xx in JSON comes from 360dialog or Meta; anything else comes from a proxy, which may have passed the request on.
_OWN_FAULTS = ErrorTable(ERROR_TEXTS, {**STATUS_FALLBACK, **dict.fromkeys((500, 502, 503), ProviderFault())})


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx with a message id; then Meta's code decides, then 360dialog's words, then the status."""
    taken = accepted(response)
    if taken is not None:
        return taken
    body = json_object(response.content)
    error = error_of(body)
    code = code_of(error)
    if code in ERROR_CODES:
        return _CODES.outcome(response, code, words_of(error))
    text = response.content.decode("utf-8", "replace")
    known = (key for key in ERROR_TEXTS if key[0] == response.status_code and key[1] in text.lower())
    words = words_of(error) or ("" if "<" in text else text[:1000])  # no page of a proxy
    return (_OWN_FAULTS if body else _TEXTS).outcome(response, next(known, None), words)


# Receipts --------------------------------------------------------------------------------------------------

EVENT_TYPES: Mapping[str, tuple[EventType, ...]] = {**whatsapp.EVENT_TYPES, "undelivered": (EventType.FAILED,)}


def parse_webhook(
    request: WebhookRequest, credentials: Dialog360Credentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """The statuses and inbound messages of a webhook. What is configured has to match: the signature, the token."""
    if credentials.platform_secret is None and credentials.webhook_token is None:
        raise InvalidReceiptSignatureError("neither a platform secret nor a token is configured")
    if credentials.platform_secret is not None:
        _verify_signature(request, credentials.platform_secret)
    if credentials.webhook_token is not None:
        verify_url_token(request, credentials.webhook_token)
    return WebhookReply(read_events(request.body, event_types=EVENT_TYPES))


def _verify_signature(request: WebhookRequest, secret: SecretStr) -> None:
    """HMAC-SHA256 of the raw body. The encoding is not documented: hexadecimal digits or base64, with or without
    ``sha256=``."""
    digest = hmac.digest(require_secret(secret).encode(), request.body, sha256)
    offered = request.headers.get("x-360dialog-signature", "").removeprefix("sha256=")
    require_match([offered], [digest.hex(), base64.b64encode(digest).decode("ascii")])


def sample(url: str, credentials: Dialog360Credentials, at: datetime) -> WebhookRequest:
    """A webhook without entries, with everything that is configured: the signature, the token."""
    secret, token = credentials.platform_secret, credentials.webhook_token
    if token is None:
        require_secret(secret)
    signature = hmac.digest(secret.get_secret_value().encode(), b"{}", sha256).hex() if secret else ""
    return json_sample(with_url_token(url, token) if token else url, at, x_360dialog_signature=signature)


DIALOG_360 = Package(
    name="provider-360dialog",
    title="WhatsApp (360dialog)",
    channels=(Channel.WHATSAPP,),
    credentials=Dialog360Credentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=sample,
    docs_url="https://docs.360dialog.com/docs/waba-messaging/messaging",
    receipts=ReceiptSource.WEBHOOK,
)
