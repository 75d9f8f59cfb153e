"""The dialect of signal-cli-rest-api: a send, a few look-ups, and notifications to ``RECEIVE_WEBHOOK_URL``.

With ``code`` "array" a send is answered in the form of the releases after 0.100.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from time import time
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import (
    Answered,
    Dialect,
    FakeRequest,
    FakeResponse,
    ParsedSend,
    ReceiptContext,
    ReceiptDialect,
    ReceiptPayload,
    Refused,
    json_response,
)
from sluice_simulator.scenario import Behaviour, Rule

# name -> (status, text)
ERRORS: Mapping[str, tuple[int, str]] = {
    "unregistered": (400, 'Failed to send message: Unregistered user "{to}"'),
    "untrusted": (400, "Failed to send message due to untrusted recipient keys"),
    "network": (400, 'Failed to send message: Network failure for "{to}"'),
    "prekeys": (400, "Failed to send message: No prekeys available"),
    "hidden": (400, "Failed to send message"),
    "own": (400, "User {number} is not registered.\n"),
    "profile": (400, "Please update your profile first"),
    "captcha": (400, 'CAPTCHA proof required for sending to "{to}", wait 3600 seconds and then try again'),
    "killed": (400, "process killed as timeout reached"),
    "rate": (429, "Failed to send message due to rate limiting"),
    "rate-delivered": (429, "Failed to send message due to rate limiting"),
    "request": (400, "Couldn't process request - invalid request"),
    "recipients": (400, "Couldn't process request - please provide at least one recipient"),
    "number": (400, "Couldn't process request - please provide a valid number"),
    "empty": (400, "Sending empty message is not allowed"),
    "mixed": (400, "Signal Messenger Groups and phone numbers cannot be specified together in one request!"),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "unregistered",
    Behaviour.THROTTLE: "rate",
    Behaviour.AUTH: "own",
    Behaviour.FAULT: "network",
}
REASONS = (
    "NETWORK_FAILURE",
    "UNREGISTERED_FAILURE",
    "IDENTITY_FAILURE",
    "RATE_LIMIT_FAILURE",
    "INVALID_PRE_KEY_FAILURE",
)
ABOUT = {
    "versions": ["v1", "v2"],
    "build": 2,
    "mode": "json-rpc",
    "version": "0.100",
    "capabilities": {"v2/send": ["quotes", "mentions"]},
}

_KEYS = frozenset({"number", "recipients", "message", "text_mode", "notify_self", "base64_attachments"})
_NUMBER = re.compile(r"\+[1-9][0-9]{5,14}")
_GROUP = re.compile(r"group\.[A-Za-z0-9+/=_-]+")
_steps = count(1)


def _error(name: str, *, to: str = "", number: str = "") -> FakeResponse:
    status, text = ERRORS[name]
    body: dict[str, Any] = {"error": text.format(to=to, number=number)}
    if status == 429:
        body |= {"account": number, "challenge_tokens": ["d8e1c1f2"] if name == "rate" else [""]}
    return json_response(status, body)


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """A send, or one of the container's look-ups."""
    match request.method, unquote(request.path).split("/")[1:]:
        case "POST", ["v2", "send"]:
            return _send(request)
        case "GET", ["v1", "about"]:
            return Answered(json_response(200, ABOUT))
        case "GET", ["v1", "health"]:
            return Answered(FakeResponse(204, b""))
        case "GET", ["v1", "search", _]:
            numbers = [number for name, number in parse_qsl(request.query) if name == "numbers"]
            return Answered(json_response(200, [{"number": one, "registered": True} for one in numbers]))
        case _:
            return Refused(FakeResponse(404, b"404 page not found", (("Content-Type", "text/plain"),)))


def _send(request: FakeRequest) -> ParsedSend | Refused:
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return Refused(_error("request"))
    problem = _problem(body) if isinstance(body, dict) else "request"
    if problem is not None:
        return Refused(_error(problem))
    sent_at = str(int(time() * 1000) + next(_steps))  # signal-cli never uses a millisecond twice
    return ParsedSend(
        recipient=body["recipients"][0],
        provider_message_id=sent_at,
        account=body["number"],
        fields={"number": body["number"]},
    )


def _problem(body: Mapping[str, Any]) -> str | None:
    recipients, message = body.get("recipients"), body.get("message", "")
    texts = isinstance(recipients, list) and all(isinstance(one, str) and one for one in recipients)
    groups = [bool(_GROUP.fullmatch(one)) for one in recipients or ()] if texts else []
    checks = (
        (set(body) - _KEYS or not isinstance(message, str) or not texts, "request"),
        (body.get("text_mode", "normal") not in ("normal", "styled"), "request"),
        (not recipients, "recipients"),
        (not _NUMBER.fullmatch(str(body.get("number", ""))), "number"),
        (len(set(groups)) > 1, "mixed"),
        (not message and not body.get("base64_attachments"), "empty"),
    )
    return next((name for wrong, name in checks if wrong), None)


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """The container's response to a send; a reason of ``REASONS`` as code is a 201 whose recipient failed."""
    if behaviour not in REFUSALS:
        sent = {"timestamp": send.provider_message_id}
        return json_response(201, [sent] if rule.code == "array" else sent)
    if rule.code in REASONS:
        failed = {"number": send.recipient, "reason": rule.code}
        return json_response(201, [{"timestamp": send.provider_message_id, "errors": {"recipients": [failed]}}])
    name = rule.code if rule.code and rule.code in ERRORS else REFUSALS[behaviour]
    return _error(name, to=send.recipient, number=send.fields["number"])


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send, moment = context.send, int(context.at.timestamp() * 1000)
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    envelope: dict[str, Any] = {
        "source": send.recipient,
        "sourceNumber": send.recipient,
        "sourceUuid": "2f6c3f5e-8f0c-4d0b-9a38-0d3c1f5b7a11",
        "sourceName": "Ann",
        "sourceDevice": 1,
        "timestamp": moment,
        "serverReceivedTimestamp": moment + 1,
        "serverDeliveredTimestamp": moment + 2,
    }
    if context.kind in ("delivered", "read"):
        read = context.kind == "read"
        flags = {"when": moment, "isDelivery": not read, "isRead": read, "isViewed": False}
        envelope["receiptMessage"] = {**flags, "timestamps": [int(send.provider_message_id)]}
    elif context.kind == "inbound":
        envelope["dataMessage"] = {"timestamp": moment, "message": "Grüße", "expiresInSeconds": 0, "viewOnce": False}
    if webhook is None or len(envelope) == 8:
        return None
    params = {"envelope": envelope, "account": send.account}
    body = orjson.dumps({"jsonrpc": "2.0", "method": "receive", "params": params})
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json", body, webhook.secret)


SIGNAL = Dialect(
    name="signal",
    package="provider-signal",
    transport=TransportKind.HTTP,
    default_port=2604,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(_write, in_url="token"),
)
