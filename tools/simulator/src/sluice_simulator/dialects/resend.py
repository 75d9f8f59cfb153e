"""Resend's far end. The facts are those of the package: sluice/providers/email/resend.py."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson

from sluice.providers.adapters import resend
from sluice.providers.contract import Wire
from sluice_simulator.dialect import FarEnd, HttpAnswer, HttpCall, ReceiptsOf, Statement, Taken, json_answer
from sluice_simulator.scenario import Do, DoorScript, Rule

# name -> (status, words); which of them stands for which kind of refusal is below.
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
REFUSALS: Mapping[Do, str] = {
    Do.REJECT: "validation_error",
    Do.THROTTLE: "rate_limit_exceeded",
    Do.AUTH: "invalid_api_key",
    Do.FAULT: "application_error",
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


def _error(name: str, retry_after: float = 1) -> HttpAnswer:
    status, words = ERRORS[name]
    headers = {}
    if status == 429:
        headers = {
            "retry-after": f"{retry_after:g}",
            "ratelimit-limit": "5",
            "ratelimit-remaining": "0",
            "ratelimit-reset": f"{retry_after:g}",
        }
    return json_answer(status, {"statusCode": status, "name": name, "message": words}, headers)


def read(call: HttpCall) -> Taken | HttpAnswer:
    """A mail with its key, or the refusal Resend gives before it looks at anything else."""
    if call.path != "/emails":
        return _error("not_found")
    if call.method != "POST":
        return _error("method_not_allowed")
    scheme, _, api_key = call.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme != "Bearer" or not api_key:
        return _error("missing_api_key")
    if not api_key.startswith("re_"):
        return _error("invalid_api_key")
    key = call.headers.get(b"idempotency-key")
    if key is not None and not 1 <= len(key) <= 256:
        return _error("invalid_idempotency_key")
    return _mail(call.body, api_key, key.decode("latin-1") if key else None)


def _mail(body: bytes, api_key: str, key: str | None) -> Taken | HttpAnswer:
    try:
        mail = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _error("validation_error")
    if not isinstance(mail, dict) or not all(mail.get(name) for name in ("from", "to", "subject")):
        return _error("missing_required_field")
    if not (mail.get("html") or mail.get("text")):
        return _error("missing_required_field")
    to = mail["to"] if isinstance(mail["to"], list) else [mail["to"]]
    if len(to) > 50 or not all(isinstance(address, str) and "@" in address for address in to):
        return _error("validation_error")
    return _taken(mail, to, api_key, key)


def _taken(mail: dict[str, Any], to: list[str], api_key: str, key: str | None) -> Taken:
    tags = {tag.get("name"): tag.get("value") for tag in mail.get("tags") or []}
    return Taken(
        recipient=to[0].rpartition("<")[2].rstrip(">"),
        provider_ref=str(uuid4()),
        reference=tags.get("ref"),
        key=key,
        message_id=tags.get("msg"),
        account=api_key,
        fields={"from": str(mail["from"]), "to": to[0], "subject": str(mail["subject"])},
    )


def answer(do: Do, taken: Taken, rule: Rule) -> HttpAnswer:
    """Resend's words for it."""
    name = rule.code if rule.code in ERRORS else REFUSALS.get(do)
    if name is not None and do in REFUSALS:
        return _error(name, rule.retry_after)
    return json_answer(200, {"id": taken.provider_ref})


def _statement(taken: Taken, kind: str, statement_id: str, now: datetime, script: DoorScript) -> Statement | None:
    webhook = script.webhooks.get(taken.account) or script.webhooks.get("*")
    if webhook is None or kind not in EVENTS:
        return None
    data = {
        "email_id": taken.provider_ref,
        "created_at": now.isoformat(timespec="milliseconds"),
        "from": taken.fields["from"],
        "to": [taken.fields["to"]],
        "subject": taken.fields["subject"],
        "tags": {"msg": taken.message_id, "ref": taken.reference},
        **BLOCKS.get(kind, {}),
    }
    event = {"type": EVENTS[kind], "created_at": now.isoformat(timespec="milliseconds"), "data": data}
    return Statement(statement_id, webhook.url, "application/json", orjson.dumps(event), webhook.secret)


def _sign(statement: Statement, now: datetime) -> dict[str, str]:
    stamp = str(int(now.timestamp()))
    signature = resend.sign(statement.secret, statement.statement_id, stamp, statement.body)
    return {"svix-id": statement.statement_id, "svix-timestamp": stamp, "svix-signature": signature}


RESEND = FarEnd(
    name="resend",
    package="provider-resend",
    wire=Wire.HTTP,
    read=read,
    answer=answer,
    conflicts=(_error("invalid_idempotent_request"), _error("concurrent_idempotent_requests")),
    receipts=ReceiptsOf(_statement, _sign, "svix-signature"),
)
