"""Termii's dialect. The facts are those of sluice/providers/adapters/termii.py."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

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
    "unauthorized": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "not_found": (404, "Not Found"),
    "method": (405, "Method Not Allowed"),
    "malformed": (400, "Bad Request"),
    "text": (422, "The sms field is required."),
    "type": (422, "The selected type is invalid."),
    "channel": (422, "The selected channel is invalid."),
    "recipient_missing": (422, "The to field is required."),
    "recipient": (400, "Invalid phone number"),
    "sender": (404, "Invalid Sender ID"),
    "route": (400, "Oops! You are not set up on this route. Please contact support."),
    "inactive": (400, "Your account is not active, please contact support"),
    "balance": (400, "Insufficient balance"),
    "device": (404, "Device not found"),
    "daily_limit": (429, "This device has reached the daily limit"),
    "too_many": (429, "Too Many Requests"),
    "internal": (500, "Internal Server Error"),
    "unavailable": (503, "Service Unavailable"),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "recipient",
    Behaviour.THROTTLE: "too_many",
    Behaviour.AUTH: "unauthorized",
    Behaviour.FAULT: "unavailable",
}
# kind -> (status, messagestate)
STATUSES: Mapping[str, tuple[str, str]] = {
    "sent": ("Message Sent", "Sent"),
    "delivered": ("DELIVERED | Message delivered to handset", "Delivered"),
    "bounced": ("DND Active on Phone Number", "Rejected"),
    "soft_bounce": ("Message Failed", "Failed"),
    "failed": ("FAILED", "Failed"),
}
CHANNELS = ("generic", "dnd", "whatsapp", "voice")
TYPES = ("plain", "unicode", "voice")
_NUMBER = re.compile(r"[1-9][0-9]{5,14}")
_SENDER = re.compile(r"[A-Za-z0-9 ._-]{3,11}")


def _error(name: str, retry_after: float | None = None) -> FakeResponse:
    status, words = ERRORS[name]
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return json_response(status, {"message": words, "status": "error"}, headers)


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """A text, or Termii's refusal."""
    if request.path != "/api/sms/send":
        return Refused(_error("not_found"))
    if request.method != "POST":
        return Refused(_error("method"))
    try:
        fields = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict) or not request.headers.get(b"content-type", b"").startswith(b"application/json"):
        return Refused(_error("malformed"))
    to = fields.get("to")
    numbers: list[Any] = to if isinstance(to, list) else [to]
    problem = _problem(fields, numbers)
    return Refused(_error(problem)) if problem else _send(fields, numbers)


def _problem(fields: Mapping[str, Any], numbers: list[Any]) -> str | None:
    text, sender, channel = fields.get("sms"), fields.get("from"), fields.get("channel")
    named = isinstance(sender, str) and (channel == "whatsapp" or _SENDER.fullmatch(sender))
    numeric = 1 <= len(numbers) <= 100 and all(isinstance(one, str) and _NUMBER.fullmatch(one) for one in numbers)
    checks = (
        (not isinstance(fields.get("api_key"), str) or not fields["api_key"], "unauthorized"),
        (numbers == [None] or numbers == [""], "recipient_missing"),
        (not numeric, "recipient"),
        (not isinstance(text, str) or not text, "text"),
        (channel not in CHANNELS, "channel"),
        (fields.get("type") not in TYPES or (fields["type"] == "voice") != (channel == "voice"), "type"),
        (not named, "sender"),
    )
    return next((name for wrong, name in checks if wrong), None)


def _send(fields: Mapping[str, Any], numbers: list[str]) -> ParsedSend:
    return ParsedSend(
        recipient=f"+{numbers[0]}",
        provider_message_id=f"30{uuid4().int % 10**25:025}",  # longer than 64 bits
        account=fields["api_key"],
        fields={"from": fields["from"], "to": numbers[0], "sms": fields["sms"], "channel": fields["channel"]},
    )


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Termii's response to a send."""
    if behaviour in REFUSALS:
        name = rule.code if rule.code and rule.code in ERRORS else REFUSALS[behaviour]
        return _error(name, rule.retry_after if behaviour is Behaviour.THROTTLE else None)
    number = send.provider_message_id
    words = b'"message":"Successfully Sent","balance":1047.57,"user":"Acme"'
    # The id is a number that no float holds, and the text beside it.
    body = b'{"code":"ok","message_id":%s,%s,"message_id_str":"%s"}' % (number.encode(), words, number.encode())
    return FakeResponse(200, body, (("Content-Type", "application/json"),))


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send = context.send
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    if webhook is None or context.kind not in (*STATUSES, "inbound"):
        return None
    event: dict[str, Any] = {
        "message_id": send.provider_message_id,
        "message_id_str": send.provider_message_id,
        "receiver": send.fields["to"],
        "sender": send.fields["from"],
        "message": send.fields["sms"],
        "channel": send.fields["channel"].upper(),
    }
    if context.kind == "inbound":
        event |= {"type": "inbound", "message_id_str": uuid4().hex, "sender": send.fields["to"], "status": "Received"}
        event |= {"receiver": send.fields["from"], "received_at": f"{context.at:%Y-%m-%d %H:%M:%S}"}
    else:
        status, state = STATUSES[context.kind]
        event |= {"type": "outbound", "status": status, "messagestate": state, "cost": "3.9", "pages": "1"}
        event |= {"command": "deliver", "msgtype": 5, "origid": send.provider_message_id}
        event |= {"sent_at": f"{context.at:%Y-%m-%d %H:%M:%S}", "notify_id": send.provider_message_id}
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json", orjson.dumps(event), webhook.secret)


def _sign(payload: ReceiptPayload, _: datetime) -> dict[str, str]:
    digest = hmac.new(payload.secret.encode(), payload.body, hashlib.sha512)
    return {"x-termii-signature": digest.hexdigest()}


TERMII = Dialect(
    name="termii",
    package="provider-termii",
    transport=TransportKind.HTTP,
    default_port=2591,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(_write, _sign, "x-termii-signature"),
)
