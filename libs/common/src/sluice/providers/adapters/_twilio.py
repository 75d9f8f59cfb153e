"""The parts of Twilio's API that do not depend on the channel: accounts, callback URLs and their signature."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha1, sha256
from typing import Self
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit, urlunsplit

import httpx
from pydantic import Field, SecretStr, model_validator

from sluice.model.outcome import Accepted, Outcome, Refusal
from sluice.providers.contract import Credentials, InvalidReceiptSignatureError, OutboundMessage, WebhookRequest
from sluice.providers.kit.credentials import BASE_URL
from sluice.providers.kit.error_table import ErrorTable, fill
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import basic, endpoint, post_form
from sluice.providers.kit.responses import json_object
from sluice.providers.kit.signatures import require_match, require_secret

_SID = re.compile(r"(SM|MM)[0-9a-fA-F]{32}")
_CODE = re.compile(r"[0-9]{1,9}")
_HOST_PART = r"^[a-z0-9-]{1,40}$"


class TwilioAccount(Credentials):
    """An account with its auth token or an API key; receipts are verified with the auth token only."""

    account_sid: str = Field(alias="accountSid", pattern=r"^AC[0-9a-fA-F]{32}$", title="Account SID")
    auth_token: SecretStr | None = Field(default=None, alias="authToken", title="Auth token")
    api_key_sid: str | None = Field(
        default=None, alias="apiKeySid", pattern=r"^SK[0-9a-fA-F]{32}$", title="API key SID"
    )
    api_key_secret: SecretStr | None = Field(default=None, alias="apiKeySecret", title="API key secret")
    region: str | None = Field(default=None, pattern=_HOST_PART, title="Region")
    edge: str | None = Field(default=None, pattern=_HOST_PART, title="Edge")
    base_url: str | None = Field(default=None, alias="baseUrl", pattern=BASE_URL, title="API address")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.auth_token is None and (self.api_key_sid is None or self.api_key_secret is None):
            raise ValueError("authToken, or apiKeySid with apiKeySecret, is needed")
        return self

    @property
    def address(self) -> str:
        """The API's base URL without a trailing slash."""
        if self.base_url:
            return self.base_url.rstrip("/")
        if self.edge or self.region:
            parts = [self.edge, self.region or "us1"]
            return f"https://api.{'.'.join(part for part in parts if part)}.twilio.com"
        return "https://api.twilio.com"

    @property
    def basic(self) -> str:
        """The Authorization header: the API key when there is one, the account otherwise."""
        user, secret = self.account_sid, self.auth_token
        if self.api_key_sid and self.api_key_secret:
            user, secret = self.api_key_sid, self.api_key_secret
        return basic(user, secret.get_secret_value() if secret else "")


def post_message(message: OutboundMessage, account: TwilioAccount, fields: Mapping[str, str]) -> httpx.Request:
    """The request that creates a message, with the callback that brings its receipts."""
    callback = {"StatusCallback": _callback_url(message)} if message.callback_url else {}
    url = endpoint(account.address, f"/2010-04-01/Accounts/{account.account_sid}/Messages.json")
    return post_form(url, {**fields, **callback}, authorization=account.basic)


def _callback_url(message: OutboundMessage) -> str:
    """The receipt URL with our reference. Unreserved characters only: it is signed as it stands."""
    return _receipts_at(message.callback_url or "") + quote_plus(message.reference)


@lru_cache(maxsize=4096)
def _receipts_at(url: str) -> str:
    """An account's receipt URL up to the reference."""
    parts = urlsplit(url)
    query = f"{parts.query}&ref=" if parts.query else "ref="
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def classify_message(
    response: httpx.Response, errors: ErrorTable[int], created_as_failed: Callable[[int], Refusal]
) -> Outcome:
    """Accepted only by a 2xx that carries a message sid; a 5xx without a known code may have been a send.

    A message can be created as failed: it is in the provider's log, and never sent.
    """
    body = json_object(response.content)
    sid = body.get("sid")
    if not response.is_success or not isinstance(sid, str) or not _SID.fullmatch(sid):
        return errors.outcome(response, error_code(body.get("code")), body.get("message") or body.get("detail"))
    if body.get("status") not in ("failed", "undelivered"):
        return Accepted(sid)
    code = error_code(body.get("error_code"))
    return fill(created_as_failed(code), f"created as {body['status']}, error {code or 'unknown'}")


def error_code(value: object) -> int:
    """Twilio writes codes as numbers or as text; 0 when it is neither."""
    return int(value) if isinstance(value, int | str) and _CODE.fullmatch(str(value)) else 0


@dataclass(frozen=True, slots=True)
class StatusCallback:
    """One status of one message; ``fields`` are the parameters of the form."""

    sid: str
    status: str
    code: int  # 0 without one
    reference: str | None
    detail: str
    fields: Mapping[str, str]


def read_callback(request: WebhookRequest, token: SecretStr | None) -> StatusCallback:
    """The status of a callback whose signature matches."""
    fields = verify_signature(request, token)
    status = fields.get("MessageStatus") or fields.get("SmsStatus") or ""
    words = [status, fields.get("ErrorCode"), fields.get("ErrorMessage") or fields.get("ChannelStatusMessage")]
    return StatusCallback(
        sid=fields.get("MessageSid") or fields.get("SmsSid") or "",
        status=status,
        code=error_code(fields.get("ErrorCode")),
        reference=dict(parse_qsl(urlsplit(request.url).query)).get("ref"),
        detail=redact(" ".join(filter(None, words)), limit=500),
        fields=fields,
    )


def verify_signature(request: WebhookRequest, token: SecretStr | None) -> dict[str, str]:
    """The callback's fields, once its signature matches. It has no timestamp: repeats are ours to recognise."""
    key = require_secret(token)
    fields = _fields(request)
    expected = [sign(key, url, fields) for url in _url_variants(request.url)]
    require_match([request.headers.get("x-twilio-signature", "")], expected)
    return dict(fields)


def _fields(request: WebhookRequest) -> list[tuple[str, str]]:
    """The signed parameters: the form of a POST, none of a GET; any other body by its hash in the URL."""
    if request.method.upper() == "GET":
        return []
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type == "application/x-www-form-urlencoded":
        return _form_fields(request.body)
    query = dict(parse_qsl(urlsplit(request.url).query))
    require_match([query.get("bodySHA256", "")], [sha256(request.body).hexdigest()])
    return []


def _form_fields(body: bytes) -> list[tuple[str, str]]:
    try:
        text = body.decode("utf-8")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError:  # not UTF-8, or more fields than any callback has
        raise InvalidReceiptSignatureError("the form cannot be read") from None


def sign(token: str, url: str, fields: Iterable[tuple[str, str]]) -> str:
    """Twilio's signature: base64 HMAC-SHA1 over the URL and the sorted, distinct fields, concatenated."""
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode("utf-8", "replace"), sha1)).decode("ascii")


def sample(url: str, account: TwilioAccount, at: datetime) -> WebhookRequest:
    """``Package.sample``: a callback with a status that says nothing yet."""
    fields = {"MessageStatus": "queued"}
    signature = sign(require_secret(account.auth_token), url, fields.items())
    headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature}
    return WebhookRequest("POST", url, headers, urlencode(fields).encode(), at)


def _url_variants(url: str) -> Iterable[str]:
    """The URL without and with its port: senders differ in which one they sign."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}.get(parts.scheme)
    yield url
    rest = url.split(parts.netloc, 1)[1] if parts.netloc else ""
    if parts.port is None and default:
        yield f"{parts.scheme}://{parts.netloc}:{default}{rest}"
    elif parts.port is not None:
        yield f"{parts.scheme}://{host}{rest}"
