"""SendGrid's dialect. The facts are those of sluice/providers/adapters/sendgrid.py.

The secret of a webhook is the private key of its signatures: the number in hexadecimal digits.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

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
from sluice_simulator.dialects._sendgrid_mail import Mail
from sluice_simulator.scenario import Behaviour, Rule

# name -> (status, field, text); SendGrid itself has no names
ERRORS: Mapping[str, tuple[int, str | None, str]] = {
    "address": (400, "personalizations.0.to.0.email", "Does not contain a valid address."),
    "bad-request": (400, None, "Bad Request"),
    "authorization-required": (401, None, "authorization required"),
    "invalid-key": (401, None, "The provided authorization grant is invalid, expired, or revoked"),
    "credits": (401, None, "Maximum credits exceeded"),
    "sender": (403, "from", "The from address does not match a verified Sender Identity."),
    "forbidden": (403, None, "access forbidden"),
    "not-found": (404, None, "resource not found"),
    "method": (405, None, "method not allowed"),
    "too-large": (413, None, "payload too large"),
    "too-many-requests": (429, None, "too many requests"),
    "server-error": (500, None, "internal server error"),
    "unavailable": (503, None, "service unavailable"),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "address",
    Behaviour.THROTTLE: "too-many-requests",
    Behaviour.AUTH: "invalid-key",
    Behaviour.FAULT: "server-error",
}
EVENTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sent": ("processed", {}),
    "delivered": ("delivered", {"response": "250 OK", "tls": 1}),
    "bounced": ("bounce", {"type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"}),
    "soft_bounce": ("bounce", {"type": "blocked", "reason": "452 4.2.2 mailbox full"}),
    "complained": ("spamreport", {}),
    "failed": ("dropped", {"reason": "Bounced Address", "status": "5.0.0"}),
    "deferred": ("deferred", {"response": "421 4.7.0 try later", "attempt": "1"}),
    "opened": ("open", {"useragent": "Mozilla/5.0", "ip": "198.51.100.7"}),
    "clicked": ("click", {"url": "https://example.com/", "useragent": "Mozilla/5.0", "ip": "198.51.100.7"}),
    "opt_out": ("unsubscribe", {}),
}
MAX_BODY = 30_000_000


def _refusal(status: int, field: str | None, words: str, headers: Mapping[str, str] | None = None) -> FakeResponse:
    return json_response(status, {"errors": [{"message": words, "field": field, "help": None}]}, headers)


def read(request: FakeRequest) -> ParsedSend | Refused:
    """A mail, or SendGrid's refusal."""
    if request.path != "/v3/mail/send":
        return Refused(_refusal(*ERRORS["not-found"]))
    if request.method != "POST":
        return Refused(_refusal(*ERRORS["method"]))
    scheme, _, api_key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme != "Bearer" or not api_key.startswith("SG."):
        return Refused(_refusal(*ERRORS["invalid-key" if api_key else "authorization-required"]))
    if len(request.body) > MAX_BODY:
        return Refused(_refusal(*ERRORS["too-large"]))
    try:
        return _send(Mail.model_validate_json(request.body), api_key)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or None
        return Refused(_refusal(400, field, problem["msg"].removeprefix("Value error, ")))


def _send(mail: Mail, api_key: str) -> ParsedSend:
    first = mail.personalizations[0]
    arguments = {**mail.custom_args, **first.custom_args}
    return ParsedSend(
        recipient=first.to[0].email,
        provider_message_id=base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("="),
        reference=arguments.get("sluice_ref"),
        message_id=arguments.get("sluice_msg"),
        account=api_key,
        fields=arguments,
    )


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """SendGrid's response to a send."""
    if behaviour in REFUSALS:
        name = rule.code if rule.code in ERRORS else None
        status, field, words = ERRORS[name or REFUSALS[behaviour]]
        headers = {"Retry-After": f"{rule.retry_after:g}"} if status == 429 else {}
        return _refusal(status, field, words, headers)
    return FakeResponse(202, b"", (("X-Message-Id", send.provider_message_id),))


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send, kind = context.send, context.kind
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    if webhook is None or kind not in EVENTS:
        return None
    name, details = EVENTS[kind]
    event = {
        "email": send.recipient,
        "timestamp": int(context.at.timestamp()),
        "event": name,
        "sg_event_id": context.receipt_id,
        "sg_message_id": f"{send.provider_message_id}.recvd-abc-1-6700.0",
        **send.fields,
        **details,
    }
    body = b"[" + orjson.dumps(event) + b"]\r\n"
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json;charset=utf-8", body, webhook.secret)


def _sign(payload: ReceiptPayload, now: datetime) -> dict[str, str]:
    stamp = str(int(now.timestamp()))
    key = ec.derive_private_key(int(payload.secret, 16), ec.SECP256R1())
    signature = key.sign(stamp.encode() + payload.body, ec.ECDSA(hashes.SHA256()))
    prefix = "x-twilio-email-event-webhook-"
    return {f"{prefix}signature": base64.b64encode(signature).decode(), f"{prefix}timestamp": stamp}


SENDGRID = Dialect(
    name="sendgrid",
    package="provider-sendgrid",
    transport=TransportKind.HTTP,
    default_port=2583,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(
        _write,
        _sign,
        "x-twilio-email-event-webhook-signature",
        other_key=lambda secret: f"{int(secret, 16) + 1:x}",
        stale=timedelta(hours=26),
    ),
)
