"""Infobip's dialect for SMS, version 3. The facts are those of sluice/providers/adapters/infobip.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson
from pydantic import ValidationError

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
    split_token,
)
from sluice_simulator.dialects._infobip import Body, Message
from sluice_simulator.scenario import Behaviour, Rule

# name -> (status, text)
ERRORS: Mapping[str, tuple[int, str]] = {
    "E400": (400, "Request cannot be processed."),
    "E401": (401, "The request lacks valid authentication credentials for the requested resource."),
    "E403": (403, "You are not authorized to perform the requested action."),
    "E404": (404, "Requested URL not found."),
    "E405": (405, "Method not allowed."),
    "E415": (415, "Unsupported media type."),
    "E429": (429, "Too many requests."),
    "E500": (500, "Something went wrong. Please contact support."),
    "E503": (503, "Service unavailable."),
}
GROUP_NAMES = ("ACCEPTED", "PENDING", "UNDELIVERABLE", "DELIVERED", "EXPIRED", "REJECTED")
# status id -> (group id, name)
STATUSES: Mapping[int, tuple[int, str]] = {
    2: (3, "DELIVERED_TO_OPERATOR"),
    4: (2, "UNDELIVERABLE_REJECTED_OPERATOR"),
    5: (3, "DELIVERED_TO_HANDSET"),
    6: (5, "REJECTED_NETWORK"),
    9: (2, "UNDELIVERABLE_NOT_DELIVERED"),
    10: (5, "REJECTED_DND"),
    11: (5, "REJECTED_SOURCE"),
    12: (5, "REJECTED_NOT_ENOUGH_CREDITS"),
    13: (5, "REJECTED_SENDER"),
    14: (5, "REJECTED_DESTINATION_BLOCKLISTED"),
    15: (4, "EXPIRED_EXPIRED"),
    18: (5, "REJECTED_DESTINATION_NOT_REGISTERED"),
    19: (5, "REJECTED_ROUTE_NOT_AVAILABLE"),
    20: (5, "REJECTED_FLOODING_FILTER"),
    21: (5, "REJECTED_SYSTEM_ERROR"),
    23: (5, "REJECTED_DUPLICATE_MESSAGE_ID"),
    25: (5, "REJECTED_MESSAGE_TOO_LONG"),
    26: (1, "PENDING_ACCEPTED"),
    52: (5, "REJECTED_DESTINATION"),
    100: (2, "UNDELIVERABLE_REJECTED_PLATFORM"),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "52",
    Behaviour.THROTTLE: "E429",
    Behaviour.AUTH: "E401",
    Behaviour.FAULT: "21",
}
# kind -> (status id, error: id, name, permanent)
RECEIPTS: Mapping[str, tuple[int, tuple[int, str, bool]]] = {
    "sent": (2, (0, "NO_ERROR", False)),
    "delivered": (5, (0, "NO_ERROR", False)),
    "bounced": (9, (1, "EC_UNKNOWN_SUBSCRIBER", True)),
    "soft_bounce": (9, (27, "EC_ABSENT_SUBSCRIBER", False)),
    "failed": (21, (0, "NO_ERROR", False)),
    "opt_out": (14, (573, "EC_RECIPIENT_OPTED_OUT", True)),
}
MAX_TEXT = 25 * 153  # more parts are refused
_NUMBER = re.compile(r"[0-9]{5,15}")


def _error(name: str, problem: tuple[str, str] | None = None, retry_after: float | None = None) -> FakeResponse:
    status, words = ERRORS[name]
    violations = [{"property": problem[0], "violation": problem[1]}] if problem else []
    body = {"errorCode": name, "description": words, "action": "See the documentation."}
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return json_response(status, {**body, "violations": violations, "resources": []}, headers)


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """A text with its webhook, or Infobip's refusal."""
    if request.path != "/sms/3/messages":
        return Refused(_error("E404"))
    if request.method != "POST":
        return Refused(_error("E405"))
    scheme, _, key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme != "App" or not key:
        return Refused(_error("E401"))
    if not request.headers.get(b"content-type", b"").startswith(b"application/json"):
        return Refused(_error("E415"))
    try:
        body = Body.model_validate_json(request.body)
    except ValidationError as refused:
        error = refused.errors()[0]
        return Refused(_error("E400", (".".join(map(str, error["loc"])), error["msg"])))
    return _send(body.messages[0], key)


def _send(message: Message, key: str) -> ParsedSend:
    destination = message.destinations[0]
    code = 25 if len(message.content.text) > MAX_TEXT else None if _NUMBER.fullmatch(destination.to) else 52
    fields = {"to": destination.to, "sender": message.sender or "InfoSMS", "bulk": str(uuid4().int % 10**19)}
    message_id = destination.messageId or str(uuid4().int % 10**20)
    return ParsedSend(
        recipient="+" + destination.to,
        provider_message_id=message_id,
        reference=destination.messageId,
        idempotency_key=destination.messageId,
        account=key,
        callback=message.webhooks.delivery.url,
        forced_response=_answer(message_id, fields, code) if code else None,
        fields=fields,
    )


def _status(code: int) -> dict[str, Any]:
    group, name = STATUSES[code]
    words = name.replace("_", " ").capitalize()
    return {"groupId": group, "groupName": GROUP_NAMES[group], "id": code, "name": name, "description": words}


def _answer(message_id: str, fields: Mapping[str, str], code: int) -> FakeResponse:
    entry = {"messageId": message_id, "status": _status(code), "destination": fields["to"]}
    return json_response(200, {"bulkId": fields["bulk"], "messages": [{**entry, "details": {"messageCount": 1}}]})


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Infobip's response to a send."""
    if behaviour not in REFUSALS:
        return _answer(send.provider_message_id, send.fields, 26)
    name = rule.code or REFUSALS[behaviour]
    if name in ERRORS:
        return _error(name, retry_after=rule.retry_after if behaviour is Behaviour.THROTTLE else None)
    known = name.isdecimal() and int(name) in STATUSES
    return _answer(send.provider_message_id, send.fields, int(name) if known else 52)


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send = context.send
    if not send.callback or context.kind not in RECEIPTS:
        return None
    code, (error, name, permanent) = RECEIPTS[context.kind]
    at = f"{context.at:%Y-%m-%dT%H:%M:%S}.{context.at.microsecond // 1000:03}{context.at:%z}"  # no colon in the offset
    report = {
        "bulkId": send.fields["bulk"],
        "messageId": send.provider_message_id,
        "to": send.fields["to"],
        "sender": send.fields["sender"],
        "sentAt": at,
        "doneAt": at,
        "messageCount": 1,
        "mccMnc": "62130",
        "price": {"pricePerMessage": 0.01, "currency": "EUR"},
        "status": _status(code),
        "error": {"groupId": 0 if error == 0 else 1, "id": error, "name": name, "permanent": permanent},
    }
    url, token = split_token(send.callback, "token")
    return ReceiptPayload(context.receipt_id, url, "application/json", orjson.dumps({"results": [report]}), token)


INFOBIP = Dialect(
    name="infobip",
    package="provider-infobip",
    transport=TransportKind.HTTP,
    default_port=2593,
    read=read,
    respond=respond,
    duplicate=lambda send: _answer(send.provider_message_id, send.fields, 23),
    receipts=ReceiptDialect(_write, in_url="token"),
)
