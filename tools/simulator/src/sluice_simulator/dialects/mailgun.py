"""Mailgun's dialect. The facts are those of sluice/providers/adapters/mailgun.py.

The signature of a webhook is inside the body and covers a timestamp and a token; a repeat has the token of the first.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import getaddresses
from hashlib import sha256
from typing import Any
from uuid import uuid4

import orjson

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import (
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
from sluice_simulator.dialects._mailgun_form import Form, MalformedFormError, problems, read_form
from sluice_simulator.scenario import Behaviour, Rule

# name -> (status, text); Mailgun itself has no names
ERRORS: Mapping[str, tuple[int, str]] = {
    "address": (400, "to parameter is not a valid address. please check documentation"),
    "sandbox": (400, "Domain mg.example.com is not allowed to send: Sandbox subdomains are for test purposes only."),
    "forbidden": (401, "Forbidden"),
    "failed": (402, "Request failed"),
    "batches": (403, "You are not allowed to send large batches yet"),
    "domain": (404, "Domain not found: mg.example.com"),
    "too-large": (413, "request size exceeds 52.4MiB limit"),
    "limit": (429, "Domain mg.example.com is not allowed to send: request limit exceeded, try again after {} seconds"),
    "server-error": (500, "Internal Server Error"),
    "unavailable": (503, "Internal Server Error"),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "address",
    Behaviour.THROTTLE: "limit",
    Behaviour.AUTH: "forbidden",
    Behaviour.FAULT: "server-error",
}
_FAILED = {"event": "failed", "log-level": "error"}
EVENTS: Mapping[str, Mapping[str, Any]] = {
    "sent": {"event": "accepted", "method": "http"},
    "delivered": {"event": "delivered", "delivery-status": {"code": 250, "message": "OK", "attempt-no": 1}},
    "bounced": {
        **_FAILED,
        "severity": "permanent",
        "reason": "bounce",
        "delivery-status": {"code": 550, "enhanced-code": "5.1.1", "message": "5.1.1 no such user", "attempt-no": 1},
    },
    "soft_bounce": {**_FAILED, "severity": "permanent", "reason": "old", "delivery-status": {"code": 602}},
    "failed": {
        **_FAILED,
        "severity": "permanent",
        "reason": "suppress-bounce",
        "delivery-status": {"code": 605, "description": "Not delivering to previously bounced address"},
    },
    "deferred": {
        **_FAILED,
        "severity": "temporary",
        "reason": "generic",
        "delivery-status": {"code": 451, "enhanced-code": "4.7.652", "message": "too many", "retry-seconds": 600},
    },
    "complained": {"event": "complained"},
    "opened": {"event": "opened", "client-info": {"user-agent": "Mozilla/5.0", "bot": ""}},
    "clicked": {"event": "clicked", "url": "https://example.com/", "client-info": {"bot": ""}},
    "opt_out": {"event": "unsubscribed"},
}
MAX_BODY = 52_400_000
_PATH = re.compile(r"/v3/([A-Za-z0-9.-]+)/messages(\.mime)?")


def _error(name: str, retry_after: float = 1) -> FakeResponse:
    status, words = ERRORS[name]
    if status == 401:
        return FakeResponse(401, b"Forbidden", (("content-type", "text/plain"),))
    return json_response(status, {"message": words.format(f"{retry_after:g}")})


def _bad(words: str) -> Refused:
    return Refused(json_response(400, {"message": words}))


def read(request: FakeRequest) -> ParsedSend | Refused:
    """A mail as fields or as MIME, or Mailgun's refusal."""
    path = _PATH.fullmatch(request.path)
    if path is None or request.method != "POST":  # what Mailgun says at a wrong URL
        return Refused(FakeResponse(200, b"Mailgun Magnificent API", (("content-type", "text/plain"),)))
    scheme, _, encoded = request.headers.get(b"authorization", b"").partition(b" ")
    user, _, key = base64.b64decode(encoded + b"==").decode("latin-1").partition(":")
    if scheme != b"Basic" or user != "api" or not key:
        return Refused(_error("forbidden"))
    if len(request.body) > MAX_BODY:
        return Refused(_error("too-large"))
    try:
        form = read_form(request, mime=path[2] is not None)
    except MalformedFormError as error:
        return _bad(str(error))
    problem = next(problems(form), None)
    return _bad(problem) if problem else _send(form, path[1], key)


def _send(form: Form, domain: str, key: str) -> ParsedSend:
    variables = {name[2:]: values[0] for name, values in form.items() if name.startswith("v:")}
    recipient = getaddresses(form["to"])[0][1]
    return ParsedSend(
        recipient=recipient,
        provider_message_id=f"<{uuid4().hex[:14]}.{uuid4().hex[:16]}@{domain}>",
        reference=variables.get("ref"),
        message_id=variables.get("msg"),
        account=key,
        fields=variables,
    )


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Mailgun's response to a send."""
    if behaviour in REFUSALS:
        name = rule.code if rule.code in ERRORS else None
        return _error(name or REFUSALS[behaviour], rule.retry_after)
    return json_response(200, {"id": send.provider_message_id, "message": "Queued. Thank you."})


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send, kind = context.send, context.kind
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    if webhook is None or kind not in EVENTS:
        return None
    event = {
        "id": context.receipt_id[-22:],
        "timestamp": context.at.timestamp(),
        "recipient": send.recipient,
        "message": {"headers": {"message-id": send.provider_message_id.strip("<>"), "to": send.recipient}},
        "user-variables": dict(send.fields),
        **EVENTS[kind],
    }
    body = orjson.dumps({"event-data": event})
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json", body, webhook.secret)


def _sign(payload: ReceiptPayload, now: datetime) -> dict[str, str]:
    stamp, token = str(int(now.timestamp())), sha256(payload.receipt_id.encode()).hexdigest()[:50]
    signature = hmac.new(payload.secret.encode(), (stamp + token).encode(), sha256).hexdigest()
    return {"timestamp": stamp, "token": token, "signature": signature}


def _in_body(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    headers = {"content-type": fields.pop("content-type")}
    return headers, orjson.dumps({"signature": fields, **orjson.loads(body)})


MAILGUN = Dialect(
    name="mailgun",
    package="provider-mailgun",
    transport=TransportKind.HTTP,
    default_port=2584,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(_write, _sign, "signature", in_body=_in_body, stale=timedelta(hours=10)),
)
