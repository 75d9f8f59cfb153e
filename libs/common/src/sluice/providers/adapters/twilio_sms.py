"""Twilio SMS, REST API 2010-04-01, Messages (https://www.twilio.com/docs/messaging, OpenAPI of 2026-04-14).

No idempotency key and no field for our reference: it rides in the query of the callback URL, which the
signature of a receipt covers.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha1, sha256
from typing import Self
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit, urlunsplit

import httpx
from pydantic import Field, SecretStr, model_validator

from sluice.model.message import Channel, Sms
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
from sluice.providers.kit.credentials import BASE_URL
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import endpoint, post
from sluice.providers.kit.responses import OutcomeType, describe, json_body, make_outcome

_SID = re.compile(r"(SM|MM)[0-9a-fA-F]{32}")
_CODE = re.compile(r"[0-9]{1,9}")
_HOST_PART = r"^[a-z0-9-]{1,40}$"


class TwilioCredentials(Credentials):
    """An account with its auth token or an API key; receipts are verified with the auth token only."""

    account_sid: str = Field(alias="accountSid", pattern=r"^AC[0-9a-fA-F]{32}$", title="Account SID")
    auth_token: SecretStr | None = Field(default=None, alias="authToken", title="Auth token")
    api_key_sid: str | None = Field(
        default=None, alias="apiKeySid", pattern=r"^SK[0-9a-fA-F]{32}$", title="API key SID"
    )
    api_key_secret: SecretStr | None = Field(default=None, alias="apiKeySecret", title="API key secret")
    from_: str | None = Field(default=None, alias="from", min_length=1, max_length=20, title="Sender")
    messaging_service_sid: str | None = Field(
        default=None, alias="messagingServiceSid", pattern=r"^MG[0-9a-fA-F]{32}$", title="Messaging service"
    )
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
            places = [self.edge, self.region or "us1"]
            return f"https://api.{'.'.join(place for place in places if place)}.twilio.com"
        return "https://api.twilio.com"

    @property
    def basic(self) -> str:
        """The Authorization header: the API key when there is one, the account otherwise."""
        user, secret = self.account_sid, self.auth_token
        if self.api_key_sid and self.api_key_secret:
            user, secret = self.api_key_sid, self.api_key_secret
        password = secret.get_secret_value() if secret else ""
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: TwilioCredentials) -> httpx.Request:
    """One text to one number."""
    if not isinstance(message.content, Sms):
        raise UnsupportedMessageError("Twilio's SMS package carries SMS only")
    fields = {
        "To": message.recipient,
        **_sender(message.content, credentials),
        "Body": message.content.text,
        **({"StatusCallback": _callback(message)} if message.callback_url else {}),
    }
    headers = (
        (b"Authorization", credentials.basic.encode()),
        (b"Content-Type", b"application/x-www-form-urlencoded"),
        (b"Accept", b"application/json"),
        (b"User-Agent", b"sluice"),
    )
    url = endpoint(credentials.address, f"/2010-04-01/Accounts/{credentials.account_sid}/Messages.json")
    return post(url, headers, _form(fields))


def _sender(sms: Sms, credentials: TwilioCredentials) -> dict[str, str]:
    """The account's service picks from its own pool; else the account's sender; else what the message says.

    The account's setting comes first because only a sender of that account can be used there, and a message
    must be able to fail over between accounts with different senders.
    """
    if credentials.messaging_service_sid:
        service = {"MessagingServiceSid": credentials.messaging_service_sid}
        return service | ({"From": credentials.from_} if credentials.from_ else {})
    sender = credentials.from_ or sms.sender
    if not sender:
        raise UnsupportedMessageError("neither the message nor the account names a sender")
    return {"From": sender}


def _callback(message: OutboundMessage) -> str:
    """The receipt address with our reference. Unreserved characters only: it is signed as it stands."""
    return _receipts_at(message.callback_url or "") + quote_plus(message.reference)


@lru_cache(maxsize=4096)
def _receipts_at(url: str) -> str:
    """An account's receipt address up to the reference."""
    parts = urlsplit(url)
    query = f"{parts.query}&ref=" if parts.query else "ref="
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def _form(fields: Mapping[str, str]) -> bytes:
    try:
        return urlencode(fields).encode("ascii")
    except UnicodeEncodeError:
        raise UnsupportedMessageError("the text holds half a character (a lone surrogate)") from None


# Answers. The code decides, the HTTP status only where the code is unknown or missing. ---------------------


def _codes(kind: OutcomeType, *codes: int) -> dict[int, OutcomeType]:
    return dict.fromkeys(codes, kind)


ERROR_CODES: Mapping[int, OutcomeType] = {
    **_codes(AuthFailed, 20003, 20005, 10001, 21472, 20006, 20403, 20008, 20404, 21470, 21471),
    **_codes(AuthFailed, 10002, 21607, 21608, 21219),  # limits of a trial account
    **_codes(AuthFailed, 20004, 21609),  # our own configuration
    **_codes(Rejected, 20001, 20422),
    **_codes(Unknown, 20409, 20500),
    **_codes(ProviderFault, 20410, 20503, 21619, 21730),
    **_codes(Throttled, 20429, 21611, 14107),
    **_codes(Rejected, 21211, 21214, 21217, 21401, 21421),  # the number cannot be reached
    **_codes(Rejected, 21602, 21604, 21605, 21617, 21618, 21620),
    **_codes(Rejected, 21610),  # the recipient said STOP to this sender
    **_codes(Rejected, 21614, 21635),  # not a mobile number
    **_codes(Rejected, 21624, 90007, 30045, 21653, 21910),
    # "Route": this account cannot reach this number this way. AuthFailed would park the account for every
    # other country as well, so both rows only move the message on to the next provider.
    **_codes(ProviderFault, 21408, 21612),
    **_codes(AuthFailed, 21212, 21213, 21603, 21606, 21616, 21601, 21657, 21659, 21660),
    **_codes(AuthFailed, 21701, 21702, 21703, 21704, 21705),
    **_codes(AuthFailed, 21708, 21709, 21711, 21712),
    # Channels other than SMS; listed so that they are recognised.
    **_codes(AuthFailed, 63001, 63002, 63007, 63008, 63020, 63022, 63051, 63015, 63035),
    **_codes(Rejected, 63003, 63024, 63031, 63005, 63006, 63013, 63019, 63021, *range(63026, 63031)),
    **_codes(Rejected, 63034, 63037, 63040, 63041, 63042, 63014, 63032, 63033, 63016),
    **_codes(ProviderFault, 63009, 63010, 63011, 63012, 63023, 63036),
    **_codes(Throttled, 63017, 63018, 63038, 63039),
}
STATUS_FALLBACK: Mapping[int, OutcomeType] = {
    400: Rejected,
    401: AuthFailed,
    403: AuthFailed,
    404: AuthFailed,
    409: Unknown,
    422: Rejected,
    429: Throttled,
}


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx that carries a message sid; a 5xx without a known code may have been a send."""
    body = json_body(response)
    sid = body.get("sid")
    if response.is_success and isinstance(sid, str) and _SID.fullmatch(sid):
        return _created(sid, body)
    code = _number(body.get("code"))
    # A 2xx is no refusal whatever it says: the message may be on its way.
    kind = (
        Unknown if response.is_success else ERROR_CODES.get(code) or STATUS_FALLBACK.get(response.status_code, Unknown)
    )
    words = describe(response, code, body.get("message") or body.get("detail"))
    return make_outcome(kind, words, response)


def _created(sid: str, body: Mapping[str, object]) -> Outcome:
    """A message can be born failed: taken into the log, and never sent."""
    if body.get("status") not in ("failed", "undelivered"):
        return Accepted(sid)
    code = _number(body.get("error_code"))
    return ASYNC_OUTCOMES.get(code, ProviderFault)(f"created as {body['status']}, error {code or 'unknown'}")


def _number(value: object) -> int:
    """Twilio writes codes as numbers or as text; 0 when it is neither."""
    return int(value) if isinstance(value, int | str) and _CODE.fullmatch(str(value)) else 0


# Receipts --------------------------------------------------------------------------------------------------

# What an error after the 201 says about the delivery; a code not listed is FAILED.
ASYNC_ERROR_CODES: Mapping[int, ReceiptKind] = {
    **dict.fromkeys((30003, 30017, 30036), ReceiptKind.SOFT_BOUNCE),
    **dict.fromkeys((30004, 30005, 30006, 30019, 21610), ReceiptKind.BOUNCED),
}
_ASYNC_REJECTED = (30004, 30005, 30006, 30007, 30014, 30015, 30016, 30019, 21610)
_ASYNC_AUTH = (30002, 30018, 30024, 30032, 30033, 30034, 30035)
_ASYNC_THROTTLED = (30022, 30023, 30027)
# The same codes when they are already in the 201: nothing was sent, so the next provider may be tried.
ASYNC_OUTCOMES: Mapping[int, type[Rejected] | type[AuthFailed] | type[Throttled] | type[ProviderFault]] = {
    **dict.fromkeys(_ASYNC_REJECTED, Rejected),
    **dict.fromkeys(_ASYNC_AUTH, AuthFailed),
    **dict.fromkeys(_ASYNC_THROTTLED, Throttled),
}

EVENT_TYPES: Mapping[str, tuple[ReceiptKind, ...]] = {
    "sent": (ReceiptKind.SENT,),
    "delivered": (ReceiptKind.DELIVERED,),
    "read": (ReceiptKind.DELIVERED, ReceiptKind.READ),
    "partially_delivered": (ReceiptKind.SENT,),  # undocumented for SMS: an event, no new state
    "failed": (ReceiptKind.FAILED,),
    "undelivered": (ReceiptKind.FAILED,),
    "canceled": (ReceiptKind.FAILED,),  # cancelled at Twilio's side; our own cancels never reach it
}


def parse_receipts(request: ReceiptRequest, credentials: TwilioCredentials) -> list[Receipt]:
    """What a status callback says; empty for intermediate states (queued, sending …) and inbound messages."""
    fields = _verify_signature(request, credentials.auth_token)
    status = fields.get("MessageStatus") or fields.get("SmsStatus") or ""
    sid = fields.get("MessageSid") or fields.get("SmsSid") or ""
    code = _number(fields.get("ErrorCode"))
    reference = dict(parse_qsl(urlsplit(request.url).query)).get("ref")
    detail = " ".join(filter(None, [status, fields.get("ErrorCode"), fields.get("ErrorMessage")]))
    return [
        Receipt(
            receipt_id=f"{sid}:{kind}" if status == "read" else f"{sid}:{status}",
            kind=kind,
            reference=reference,
            provider_message_id=sid or None,
            recipient=fields.get("To"),
            occurred_at=_parse_time(fields.get("RawDlrDoneDate", "")),
            detail=redact(detail, limit=500),
        )
        for kind in _event_types(status, code)
    ]


def _event_types(status: str, code: int) -> Iterable[ReceiptKind]:
    if status == "undelivered":
        return (ASYNC_ERROR_CODES.get(code, ReceiptKind.FAILED),)
    if status == "failed" and code == 21610:
        return (ReceiptKind.BOUNCED,)
    return EVENT_TYPES.get(status, ())


def _parse_time(value: str) -> datetime | None:
    """``YYMMDDhhmm``, the carrier's clock; no zone is documented, UTC is what was seen."""
    try:
        return datetime.strptime(value, "%y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None


def _verify_signature(request: ReceiptRequest, token: SecretStr | None) -> dict[str, str]:
    """The callback's fields, once its signature holds. No timestamp: repeats are ours to recognise."""
    if token is None:
        raise InvalidReceiptSignatureError("no auth token is configured, so nothing can be verified")
    offered = request.headers.get("x-twilio-signature", "").encode("utf-8", "replace")
    fields = _fields(request)
    right = [
        hmac.compare_digest(sign(token.get_secret_value(), url, fields).encode("ascii"), offered)
        for url in _url_variants(request.url)
    ]
    if not any(right):
        raise InvalidReceiptSignatureError("the signature does not fit")
    return dict(fields)


def _fields(request: ReceiptRequest) -> list[tuple[str, str]]:
    """The signed parameters: the form of a POST, none of a GET; any other body by its hash in the URL."""
    if request.method.upper() == "GET":
        return []
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return _form_fields(request.body)
    query = dict(parse_qsl(urlsplit(request.url).query))
    stated = query.get("bodySHA256", "").encode("utf-8", "replace")
    if not hmac.compare_digest(stated, sha256(request.body).hexdigest().encode()):
        raise InvalidReceiptSignatureError("the body does not fit its hash")
    return []


def _form_fields(body: bytes) -> list[tuple[str, str]]:
    try:
        text = body.decode("utf-8")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError:  # not UTF-8, or a flood of fields
        raise InvalidReceiptSignatureError("the form cannot be read") from None


def sign(token: str, url: str, fields: Iterable[tuple[str, str]]) -> str:
    """Twilio's signature: base64 HMAC-SHA1 over the URL and the sorted, distinct fields, run together."""
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode("utf-8", "replace"), sha1)).decode("ascii")


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


TWILIO = Package(
    name="provider-twilio",
    title="Twilio SMS",
    channels=(Channel.SMS,),
    credentials=TwilioCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_receipts=parse_receipts,
)
