"""360dialog's dialect: WhatsApp's messages under an API key, its own errors, and a token in the receipt URL."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
from sluice_simulator.dialects import _whatsapp
from sluice_simulator.scenario import Behaviour, Rule

# name -> (status, text)
ERRORS: Mapping[str, tuple[int, str]] = {
    "disabled": (400, "Your access to the WhatsApp API has been disabled."),
    "rate": (400, "You have exceeded the endpoint rate limit."),
    "unpaid": (400, "Messaging is blocked due to lack of payment."),
    "key": (401, "Invalid api_key"),
    "blocked": (403, "This endpoint is blocked."),
    "path": (404, "Not found"),
    "internal": (500, "Internal server error"),
    "unavailable": (502, "WhatsApp for Business API not available"),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.THROTTLE: "rate",
    Behaviour.AUTH: "key",
    Behaviour.FAULT: "unavailable",
}
PHONE_NUMBER_ID, WABA = "106540352242922", "102290129340398"

_KEY = re.compile(rb"[!-~]+")


def _error(name: str) -> FakeResponse:
    status, text = ERRORS[name]
    return json_response(status, {"meta": {"success": False, "http_code": status, "developer_message": text}})


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """A message of the key's number, the address of its webhook, or a refusal."""
    key = request.headers.get(b"d360-api-key", b"")
    if not _KEY.fullmatch(key):
        return Refused(_error("key"))
    if (request.method, request.path) == ("POST", "/v1/configs/webhook"):
        return _webhook(request)
    if (request.method, request.path) != ("POST", "/messages"):
        return Refused(_error("path"))
    found = _whatsapp.read_body(request, account=key.decode())
    return found if isinstance(found, ParsedSend) else Refused(found)


def _webhook(request: FakeRequest) -> Answered | Refused:
    try:
        url = orjson.loads(request.body)["url"]
    except (ValueError, KeyError, TypeError):
        return Refused(_whatsapp.error(100, "url is required"))
    return Answered(json_response(200, {"url": url}))


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """An error of 360dialog, or Meta's response."""
    if behaviour not in REFUSALS:
        return _whatsapp.respond(behaviour, send, rule)
    if rule.code and rule.code.isdecimal():
        return _whatsapp.error(int(rule.code))
    return _error(rule.code if rule.code and rule.code in ERRORS else REFUSALS[behaviour])


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    webhooks = context.scenario.webhooks
    webhook = webhooks.get(context.send.account) or webhooks.get("*")
    body = _whatsapp.write_batch(context, phone_number_id=PHONE_NUMBER_ID, waba=WABA)
    if webhook is None or body is None:
        return None
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json", body, webhook.secret)


DIALOG_360 = Dialect(
    name="360dialog",
    package="provider-360dialog",
    transport=TransportKind.HTTP,
    default_port=2602,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(_write, in_url="token"),
)
