"""WhatsApp through Meta's Cloud API, Graph ``/{phone number id}/messages``, v23.0 (sources: kit/whatsapp.py).

There is no idempotency key. A 200 is acceptance only: most refusals come as a status later, with the same codes.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from pydantic import Field, SecretStr

from sluice.model.message import Channel
from sluice.model.outcome import AuthFailed, Declined, Outcome, ProviderFault, Refusal, Throttled
from sluice.model.reasons import Reason
from sluice.providers.contract import (
    Credentials,
    InvalidReceiptSignatureError,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    WebhookAnswer,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret
from sluice.providers.kit.error_table import ErrorTable
from sluice.providers.kit.requests import endpoint, post_json
from sluice.providers.kit.responses import clamp, json_object
from sluice.providers.kit.signatures import json_sample, require_match, require_secret, verify_hmac_sha256
from sluice.providers.kit.whatsapp import (
    ERROR_CODES,
    RATE_CODES,
    accepted,
    code_of,
    digits_of,
    error_of,
    message_body,
    read_events,
    words_of,
)

_ID = r"^[0-9]{1,32}$"
_CHALLENGE = re.compile(r"[!-~]{1,200}")


class MetaCloudCredentials(Credentials):
    """One business number; the app's secret and verify token are for webhooks only."""

    access_token: HeaderSecret = Field(alias="accessToken", title="Access token")
    phone_number_id: str = Field(alias="phoneNumberId", pattern=_ID, title="Phone number ID")
    business_account_id: str | None = Field(
        default=None, alias="businessAccountId", pattern=_ID, title="WhatsApp Business account ID"
    )
    app_secret: SecretStr | None = Field(default=None, alias="appSecret", title="App secret")
    verify_token: SecretStr | None = Field(default=None, alias="verifyToken", title="Verify token of the webhook")
    api_version: str = Field(
        default="v23.0", alias="apiVersion", pattern=r"^v[0-9]{1,3}\.[0-9]{1,2}$", title="API version"
    )
    base_url: str = Field(default="https://graph.facebook.com", alias="baseUrl", pattern=BASE_URL, title="Address")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: MetaCloudCredentials) -> httpx.Request:
    """One template or text to one number."""
    path = f"/{credentials.api_version}/{credentials.phone_number_id}/messages"
    return post_json(
        endpoint(credentials.base_url, path),
        message_body(message, to="+" + digits_of(message.recipient)),
        authorization=f"Bearer {credentials.access_token.get_secret_value()}",
    )


# Responses -------------------------------------------------------------------------------------------------

# Of a known code the status does not matter: Meta has changed statuses, and says that codes decide.
STATUS_FALLBACK: Mapping[int, Refusal] = {
    **dict.fromkeys(range(400, 500), Declined(Reason.INVALID_CONTENT)),
    **dict.fromkeys((401, 403, 404), AuthFailed()),  # 404: a wrong phone number id or version
    429: Throttled(),
}
_ERRORS = ErrorTable(ERROR_CODES, STATUS_FALLBACK)
# A 5xx with Meta's own error comes from the API itself, and one that says so may be repeated.
_OWN_FAULTS = ErrorTable(ERROR_CODES, {**STATUS_FALLBACK, **dict.fromkeys(range(500, 600), ProviderFault())})
_TRANSIENT = ErrorTable(ERROR_CODES, dict.fromkeys(range(400, 600), ProviderFault()))
_NO_SUCH_OBJECT = 33  # also the error_subcode of code 100: the phone number id is wrong, or out of the token's reach
_ABOUT_OBJECT = re.compile(
    r"unsupported post request|(object|phone number)( with)? id\b.{0,100}(not exist|missing permission|lacks access)",
    re.IGNORECASE,
)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx with a message id; the code decides about everything else."""
    taken = accepted(response)
    if taken is not None:
        return taken
    error = error_of(json_object(response.content))
    code = code_of(error)
    words = words_of(error)
    if code == 100 and (error.get("error_subcode") == _NO_SUCH_OBJECT or _ABOUT_OBJECT.search(words)):
        code = _NO_SUCH_OBJECT
    table = _TRANSIENT if error.get("is_transient") is True else _OWN_FAULTS if error else _ERRORS
    return table.outcome(response, code, words, wait=_wait(response) if code in RATE_CODES else None)


def _wait(response: httpx.Response) -> timedelta | None:
    """``estimated_time_to_regain_access`` of the usage header: minutes, 0 while there is nothing to wait for."""
    usage = json_object(response.headers.get("x-business-use-case-usage", "").encode())
    entries = [entry for found in usage.values() if isinstance(found, list) for entry in found]
    minutes = [_minutes(entry) for entry in entries if isinstance(entry, dict)]
    longest = max(minutes, default=0)
    return clamp(timedelta(minutes=min(longest, 60))) if longest > 0 else None


def _minutes(entry: Mapping[str, Any]) -> float:
    minutes: Any = entry.get("estimated_time_to_regain_access")
    return float(minutes) if type(minutes) in (int, float) else 0.0


# Receipts --------------------------------------------------------------------------------------------------


def parse_webhook(
    request: WebhookRequest, credentials: MetaCloudCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """The statuses and inbound messages of this number, or the answer to Meta's handshake.

    The app secret signs for every number of the app: what concerns another one is ignored. Signatures carry no time;
    Meta repeats a webhook for days, and repeats have equal receipt ids.
    """
    if request.method.upper() == "GET":
        return _handshake(request, credentials)
    signature = request.headers.get("x-hub-signature-256", "")
    scheme, _, digest = signature.partition("=")
    verify_hmac_sha256(request.body, credentials.app_secret, digest if scheme == "sha256" else "")
    return WebhookReply(
        read_events(request.body, phone_number_id=credentials.phone_number_id, waba_id=credentials.business_account_id)
    )


def _handshake(request: WebhookRequest, credentials: MetaCloudCredentials) -> WebhookReply:
    """The challenge, when the verify token is ours; a handshake carries no signature."""
    token = require_secret(credentials.verify_token)
    query = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
    offered = [value for name, value in query if name == "hub.verify_token"]
    require_match(offered if len(offered) == 1 else [], [token])
    challenge = dict(query).get("hub.challenge", "")
    if dict(query).get("hub.mode") != "subscribe" or not _CHALLENGE.fullmatch(challenge):
        raise InvalidReceiptSignatureError("the handshake is not Meta's")
    return WebhookReply(answer=WebhookAnswer(200, challenge.encode()))


def sample(url: str, credentials: MetaCloudCredentials, at: datetime) -> WebhookRequest:
    """A webhook without entries, signed with the app secret."""
    digest = hmac.digest(require_secret(credentials.app_secret).encode(), b"{}", sha256).hex()
    return json_sample(url, at, x_hub_signature_256=f"sha256={digest}")


META_CLOUD = Package(
    name="provider-meta-cloud",
    title="WhatsApp (Meta Cloud API)",
    channels=(Channel.WHATSAPP,),
    credentials=MetaCloudCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=sample,
    docs_url="https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages",
    receipts=ReceiptSource.WEBHOOK,
)
