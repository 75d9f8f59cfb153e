"""Resend's dialect. The facts are those of sluice/providers/adapters/resend.py."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson

from sluice.providers.contract import TransportKind
from sluice.providers.kit.signatures import sign_svix
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
from sluice_simulator.scenario import Behaviour, Rule

# name -> (status, text)
ERRORS: Mapping[str, tuple[int, str]] = {
    "validation_error": (422, "Invalid `to` field. The email address needs to follow the standard format."),
    "missing_required_field": (422, "Missing a required field."),
    "invalid_parameter": (422, "The parameter is not valid."),
    "invalid_idempotency_key": (400, "The key must be between 1-256 chars."),
    "missing_api_key": (401, "Missing API key in the authorization header."),
    "restricted_api_key": (401, "This API key is restricted to only send emails."),
    "invalid_api_key": (403, "API key is invalid."),
    "not_found": (404, "The requested endpoint does not exist."),
    "method_not_allowed": (405, "Method is not allowed for the requested path."),
    "invalid_idempotent_request": (409, "Same idempotency key used with a different request payload."),
    "concurrent_idempotent_requests": (409, "Same idempotency key used while the original is in progress."),
    "rate_limit_exceeded": (429, "Too many requests."),
    "daily_quota_exceeded": (429, "You have reached your daily email sending quota."),
    "monthly_quota_exceeded": (429, "You have reached your monthly email sending quota."),
    "application_error": (500, "An unexpected error occurred."),
    "service_unavailable": (503, "The service is unavailable."),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "validation_error",
    Behaviour.THROTTLE: "rate_limit_exceeded",
    Behaviour.AUTH: "invalid_api_key",
    Behaviour.FAULT: "application_error",
}
EVENTS: Mapping[str, str] = {
    "sent": "email.sent",
    "delivered": "email.delivered",
    "bounced": "email.bounced",
    "soft_bounce": "email.bounced",
    "complained": "email.complained",
    "failed": "email.failed",
    "deferred": "email.delivery_delayed",
    "opened": "email.opened",
    "clicked": "email.clicked",
}
# Resend's own examples of these events have no tags: their mail is found by its id.
UNTAGGED = frozenset({"soft_bounce", "failed", "opened", "clicked"})
BLOCKS: Mapping[str, Mapping[str, Any]] = {
    "bounced": {
        "bounce": {
            "type": "Permanent",
            "subType": "General",
            "message": "The mailbox does not exist.",
            "diagnosticCode": ["smtp; 550 5.1.1 user unknown"],
        }
    },
    "soft_bounce": {
        "bounce": {
            "type": "Transient",
            "subType": "MailboxFull",
            "message": "The mailbox is full.",
            "diagnosticCode": [],
        }
    },
    "failed": {"failed": {"reason": "reached_daily_quota"}},
    "clicked": {
        "click": {
            "ipAddress": "198.51.100.7",
            "link": "https://example.com/",
            "timestamp": "2025-01-01T00:00:00.000Z",
            "userAgent": "Mozilla/5.0",
        }
    },
}


def _error(name: str, retry_after: float = 1) -> FakeResponse:
    status, words = ERRORS[name]
    headers = {}
    if status == 429:
        headers = {
            "retry-after": f"{retry_after:g}",
            "ratelimit-limit": "5",
            "ratelimit-remaining": "0",
            "ratelimit-reset": f"{retry_after:g}",
        }
    return json_response(status, {"statusCode": status, "name": name, "message": words}, headers)


def read(request: FakeRequest) -> ParsedSend | Refused:
    """A mail with its key, or Resend's refusal."""
    if request.path != "/emails":
        return Refused(_error("not_found"))
    if request.method != "POST":
        return Refused(_error("method_not_allowed"))
    scheme, _, api_key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme != "Bearer" or not api_key:
        return Refused(_error("missing_api_key"))
    if not api_key.startswith("re_"):
        return Refused(_error("invalid_api_key"))
    key = request.headers.get(b"idempotency-key")
    if key is not None and not 1 <= len(key) <= 256:
        return Refused(_error("invalid_idempotency_key"))
    return _mail(request.body, api_key, key.decode("latin-1") if key else None)


def _mail(body: bytes, api_key: str, key: str | None) -> ParsedSend | Refused:
    try:
        mail = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Refused(_error("validation_error"))
    if not isinstance(mail, dict) or not all(mail.get(name) for name in ("from", "to", "subject")):
        return Refused(_error("missing_required_field"))
    if not (mail.get("html") or mail.get("text")):
        return Refused(_error("missing_required_field"))
    to = mail["to"] if isinstance(mail["to"], list) else [mail["to"]]
    if len(to) > 50 or not all(isinstance(address, str) and "@" in address for address in to):
        return Refused(_error("validation_error"))
    return _send(mail, to, api_key, key)


def _send(mail: dict[str, Any], to: list[str], api_key: str, key: str | None) -> ParsedSend:
    tags = {tag.get("name"): tag.get("value") for tag in mail.get("tags") or []}
    return ParsedSend(
        recipient=to[0].rpartition("<")[2].rstrip(">"),
        provider_message_id=str(uuid4()),
        reference=tags.get("ref"),
        idempotency_key=key,
        message_id=tags.get("msg"),
        account=api_key,
        fields={"from": str(mail["from"]), "to": to[0], "subject": str(mail["subject"])},
    )


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Resend's response to a send."""
    name = rule.code if rule.code in ERRORS else REFUSALS.get(behaviour)
    if name is not None and behaviour in REFUSALS:
        return _error(name, rule.retry_after)
    return json_response(200, {"id": send.provider_message_id})


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send, kind = context.send, context.kind
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    if webhook is None or kind not in EVENTS:
        return None
    at = context.at.isoformat(timespec="milliseconds")
    data = {
        "email_id": send.provider_message_id,
        "created_at": at,
        "from": send.fields["from"],
        "to": [send.fields["to"]],
        "subject": send.fields["subject"],
        **({} if kind in UNTAGGED else {"tags": {"msg": send.message_id, "ref": send.reference}}),
        **BLOCKS.get(kind, {}),
    }
    event = {"type": EVENTS[kind], "created_at": at, "data": data}
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json", orjson.dumps(event), webhook.secret)


def _sign(payload: ReceiptPayload, now: datetime) -> dict[str, str]:
    stamp = str(int(now.timestamp()))
    signature = sign_svix(payload.secret, payload.receipt_id, stamp, payload.body)
    return {"svix-id": payload.receipt_id, "svix-timestamp": stamp, "svix-signature": signature}


RESEND = Dialect(
    name="resend",
    package="provider-resend",
    transport=TransportKind.HTTP,
    default_port=2580,
    read=read,
    respond=respond,
    declines={
        Behaviour.DECLINE: '403 {"statusCode":403,"name":"validation_error",'
        '"message":"The example.com domain is not verified."}'
    },
    conflicts=(_error("invalid_idempotent_request"), _error("concurrent_idempotent_requests")),
    receipts=ReceiptDialect(_write, _sign, "svix-signature", other_key=lambda _: "whsec_b3RoZXIta2V5"),
)
