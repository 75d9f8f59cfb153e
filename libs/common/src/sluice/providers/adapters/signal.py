"""Signal through signal-cli-rest-api, ``POST /v2/send`` (releases up to 0.100 and the master of 2026-07, read 2026-08).

A self-hosted wrapper around a registered or linked number. There is no idempotency key and no field for our reference:
receipts name the time in milliseconds at which the message was sent, which is its id. Almost every error is a 400 whose
words decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal, Self

import httpx
import orjson
from pydantic import Field, SecretStr, model_validator

from sluice.model.message import Channel, ChatMessage
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Refusal,
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
    WebhookAnswer,
    WebhookEvent,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.credentials import BASE_URL, WebhookToken
from sluice.providers.kit.error_table import ErrorTable, fill, rows
from sluice.providers.kit.requests import basic, endpoint, post_json
from sluice.providers.kit.responses import clamp, describe, json_object, object_of, seconds, text_of
from sluice.providers.kit.signatures import token_sample, verify_url_token
from sluice.providers.kit.times import parse_unix_time

_TIMESTAMP = re.compile(r"[0-9]{1,16}")
_WAIT = re.compile(r"(?:wait|retry after|retryafterseconds\W{1,3})\s*(\d{1,9})")
_OWN_NUMBER = re.compile(r"\buser \S+ is not registered")
_MAX_TIMESTAMPS = 1000  # of one receipt; any contact can send one


class SignalCredentials(Credentials):
    """One number at one container. The container has no authentication: Basic is that of a proxy before it."""

    base_url: str = Field(alias="baseUrl", pattern=BASE_URL, title="Address of signal-cli-rest-api")
    number: str = Field(pattern=r"^\+[1-9][0-9]{5,14}$", title="Registered number")
    mode: Literal["json-rpc", "normal", "native"] = Field(default="json-rpc", title="MODE of the container")
    basic_auth_user: str | None = Field(default=None, alias="basicAuthUser", pattern=r"^[^:\x00-\x1f]+$", title="User")
    basic_auth_password: SecretStr | None = Field(default=None, alias="basicAuthPassword", title="Password")
    webhook_token: WebhookToken | None = Field(default=None, alias="webhookToken", title="Token in the receipt URL")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.basic_auth_user is None) != (self.basic_auth_password is None):
            raise ValueError("basicAuthUser and basicAuthPassword are needed together")
        return self


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: SignalCredentials) -> httpx.Request:
    """One text, without markup, to one number, ACI, group or username."""
    content = message.content
    if not isinstance(content, ChatMessage) or content.channel != "signal":
        raise UnsupportedMessageError("Signal carries Signal messages only")
    fields = {
        "number": credentials.number,
        "recipients": [message.recipient],
        "message": content.text,
        "text_mode": "normal",  # else a setting of the container decides
    }
    user, password = credentials.basic_auth_user, credentials.basic_auth_password
    headers = {"authorization": basic(user, password.get_secret_value())} if user and password else {}
    return post_json(endpoint(credentials.base_url, "/v2/send"), fields, **headers)


# Responses -------------------------------------------------------------------------------------------------

_UNREGISTERED = RecipientRejected(Reason.UNKNOWN_RECIPIENT)
_UNTRUSTED = Declined(Reason.POLICY)  # of this recipient's new key, until the operator trusts it
_RATE = Throttled(retry_after=timedelta(minutes=1))
_INVALID = Declined(Reason.INVALID_CONTENT)

# The reason of a recipient in a 201.
ERROR_CODES: Mapping[str, Refusal] = {
    "NETWORK_FAILURE": ProviderFault(),
    "UNREGISTERED_FAILURE": _UNREGISTERED,
    "IDENTITY_FAILURE": _UNTRUSTED,
    "RATE_LIMIT_FAILURE": _RATE,
    "INVALID_PRE_KEY_FAILURE": ProviderFault(),
}
# Part of the error's words, in lower case; the first that fits decides.
ERROR_TEXTS: Mapping[tuple[int, str], Refusal] = {
    (429, "failed to send message due to rate limiting"): Throttled(retry_after=timedelta(hours=1)),
    (400, "captcha proof required"): Throttled(retry_after=timedelta(hours=1)),
    **rows(_RATE, (400, "rate limit failure"), (400, "rate_limit_failure")),
    **rows(AuthFailed(), (400, "specified account does not exist"), (400, "not a registered/linked account")),
    **rows(AuthFailed(), (400, "authorization failed"), (400, "update your profile")),
    **rows(_UNREGISTERED, (400, "unregistered user"), (400, "is not registered"), (400, "unregistered_failure")),
    **rows(_UNTRUSTED, (400, "untrusted recipient keys"), (400, "untrusted identit"), (400, "identity_failure")),
    # Sent to a process that then ended or took too long.
    **rows(Unknown(), (400, "process killed as timeout reached"), (400, "broken pipe"), (400, "eof")),
    # Network failures, missing prekeys, a container that is starting: as every other 400, the provider's fault.
    **rows(RecipientRejected(Reason.INVALID_ADDRESS), (400, "invalid group id"), (400, "invalid identifier")),
    **rows(_INVALID, (400, "invalid signal group size"), (400, "cannot be specified together")),
    **rows(_INVALID, (400, "more than one group"), (400, "please provide "), (400, "invalid request")),
    **rows(_INVALID, (400, "sending empty message is not allowed")),
}
# 400 stands for everything: other words move the message to the next provider. 500 and 504 come from a proxy.
STATUS_FALLBACK: Mapping[int, Refusal] = {
    **rows(ProviderFault(), 400, 502, 503),
    **rows(AuthFailed(), 401, 403),
    404: AuthFailed(),  # another address, or not this wrapper
    413: Declined(Reason.TOO_LARGE),
    429: Throttled(),
}
_ERRORS = ErrorTable(ERROR_TEXTS, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 201 with a timestamp and without an error of our one recipient."""
    if response.status_code == 201:
        return _created(response)
    body = json_object(response.content)
    words = text_of(body.get("error"), 4000) or ""
    lower = words.lower()
    if response.status_code == 400 and _OWN_NUMBER.search(lower):
        return AuthFailed(describe(response, words))
    code = next((key for key in ERROR_TEXTS if key[0] == response.status_code and key[1] in lower), None)
    if response.status_code == 429 and code is not None and not _challenged(body):
        # Before signal-cli 0.14.6, a message that was delivered could end like this.
        return Unknown(describe(response, words))
    named = _WAIT.search(lower)
    return _ERRORS.outcome(response, code, words, wait=clamp(seconds(named[1]) or timedelta()) if named else None)


def _challenged(body: Mapping[str, Any]) -> bool:
    """Whether Signal asks for a captcha: then the message was refused."""
    tokens = body.get("challenge_tokens")
    return isinstance(tokens, list) and any(isinstance(token, str) and token for token in tokens)


def _created(response: httpx.Response) -> Outcome:
    """An object up to release 0.100, after that a list with one object for our one request."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    sent = body[0] if isinstance(body, list) and len(body) == 1 else body
    timestamp = sent.get("timestamp") if isinstance(sent, dict) else None
    if not isinstance(timestamp, str) or not _TIMESTAMP.fullmatch(timestamp):
        return Unknown(describe(response))
    errors = sent.get("errors")
    failed = errors.get("recipients") if isinstance(errors, dict) else None
    if not failed:
        return Accepted(timestamp, receipt_ids=(timestamp,))
    first = failed[0] if isinstance(failed, list) and isinstance(failed[0], dict) else {}
    reason = text_of(first.get("reason")) or ""
    return fill(ERROR_CODES.get(reason, ProviderFault()), describe(response, reason or "an error without a reason"))


# Receipts: notifications of the container in json-rpc mode, unsigned. ---------------------------------------

EVENT_TYPES: Mapping[str, tuple[EventType, ...]] = {
    "isDelivery": (EventType.DELIVERED,),
    "isRead": (EventType.DELIVERED, EventType.READ),
    "isViewed": (EventType.DELIVERED, EventType.READ),
}


def parse_webhook(
    request: WebhookRequest, credentials: SignalCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """The receipts, or the inbound message, of one notification about this number."""
    verify_url_token(request, credentials.webhook_token)
    body = json_object(request.body)
    params = object_of(body, "params") or body
    notification = object_of(params, "result") or params
    envelope = object_of(notification, "envelope")
    events: list[WebhookEvent] = []
    if notification.get("account") == credentials.number and "exception" not in notification:
        events = [*_receipts(envelope), *_inbound(envelope, credentials.number)]
    return WebhookReply(events, answer=WebhookAnswer(200))  # the container takes anything else for a failure


def _sender(envelope: Mapping[str, Any]) -> str | None:
    """The number, or the ACI of someone who hides it."""
    return text_of(envelope.get("sourceNumber")) or text_of(envelope.get("sourceUuid"))


def _receipts(envelope: Mapping[str, Any]) -> Iterator[DeliveryReceipt]:
    """One for each message that the receipt names; every device of the recipient sends its own."""
    receipt = object_of(envelope, "receiptMessage")
    types = {type_: None for name in EVENT_TYPES if receipt.get(name) is True for type_ in EVENT_TYPES[name]}
    timestamps, when = receipt.get("timestamps"), receipt.get("when")
    for timestamp in timestamps[:_MAX_TIMESTAMPS] if isinstance(timestamps, list) else ():
        if type(timestamp) is not int or timestamp < 0:
            continue
        for type_ in types:
            yield DeliveryReceipt(
                receipt_id=f"{timestamp}:{type_}",
                type=type_,
                provider_message_id=str(timestamp),
                recipient=_sender(envelope),
                occurred_at=parse_unix_time(when // 1000) if type(when) is int else None,
            )


def _inbound(envelope: Mapping[str, Any], number: str) -> Iterator[InboundMessage]:
    message, sender = object_of(envelope, "dataMessage"), _sender(envelope)
    timestamp = message.get("timestamp")
    if sender and type(timestamp) is int:
        text = text_of(message.get("message"), 4096) or ""
        yield InboundMessage(f"{sender}:{timestamp}", sender, text, number, parse_unix_time(timestamp // 1000))


SIGNAL = Package(
    name="provider-signal",
    title="Signal",
    channels=(Channel.SIGNAL,),
    credentials=SignalCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=token_sample,
    docs_url="https://bbernhard.github.io/signal-cli-rest-api/",
    receipts=ReceiptSource.WEBHOOK,
    concurrency=4,  # every message is encrypted by one Java process
    http_timeout=lambda account: 60.0 if account.mode == "json-rpc" else 130.0,  # a process of its own has 120 s
)
