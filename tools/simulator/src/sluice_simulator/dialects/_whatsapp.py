"""WhatsApp's message format at the provider's end, for the dialects of Meta and of those who resell it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson

from sluice_simulator.dialect import FakeRequest, FakeResponse, ParsedSend, ReceiptContext, json_response
from sluice_simulator.scenario import Behaviour, Rule

# code -> (status, message)
ERRORS: Mapping[int, tuple[int, str]] = {
    2: (503, "API Service"),
    4: (429, "API Too Many Calls"),
    10: (403, "Permission denied"),
    33: (400, "Parameter value is not valid"),
    100: (400, "Invalid parameter"),
    190: (401, "Invalid OAuth access token - Cannot parse access token"),
    2500: (404, "Unknown path components"),
    80007: (429, "Rate limit issues"),
    130429: (429, "Rate limit hit"),
    131000: (500, "Something went wrong"),
    131008: (400, "Required parameter is missing"),
    131009: (400, "Parameter value is not valid"),
    131016: (503, "Service unavailable"),
    131026: (400, "Message undeliverable"),
    131030: (400, "Recipient phone number not in allowed list"),
    131031: (403, "Account has been locked"),
    131042: (400, "Business eligibility payment issue"),
    131047: (400, "Re-engagement message"),
    131048: (429, "Spam rate limit hit"),
    131049: (400, "This message was not delivered to maintain healthy ecosystem engagement."),
    131050: (400, "User has stopped marketing messages"),
    131056: (429, "(Business Account, Consumer Account) pair rate limit hit"),
    132000: (400, "Number of parameters does not match the expected number of params"),
    132001: (404, "Template name does not exist in the translation"),
}
REFUSALS: Mapping[Behaviour, int] = {
    Behaviour.REJECT: 131026,
    Behaviour.THROTTLE: 130429,
    Behaviour.AUTH: 190,
    Behaviour.FAULT: 131016,
}
STATUSES: Mapping[str, tuple[str, int | None]] = {
    "sent": ("sent", None),
    "delivered": ("delivered", None),
    "read": ("read", None),
    "bounced": ("failed", 131026),
    "soft_bounce": ("failed", 131000),
    "failed": ("failed", 131047),
}

_TO = re.compile(r"\+?([1-9][0-9]{5,14})")
_KEYS = frozenset(
    {"messaging_product", "recipient_type", "to", "type", "context", "biz_opaque_callback_data", "text", "template"}
)
_NAME = re.compile(r"[a-z0-9_]{1,512}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?")


def error(code: int, details: str = "", headers: Mapping[str, str] | None = None) -> FakeResponse:
    """An error in Meta's form."""
    status, message = ERRORS[code]
    data = {"messaging_product": "whatsapp", "details": details or message}
    body = {
        "message": f"(#{code}) {message}",
        "type": "OAuthException",
        "code": code,
        "error_data": data,
        "fbtrace_id": "AIlQyM5yLkn4fLl3vMoP9Fz",
    }
    return json_response(status, {"error": body}, headers)


def read_body(request: FakeRequest, **send: Any) -> ParsedSend | FakeResponse:
    """The message in the body, or the error that names what is wrong with it. ``send``: fields of the ParsedSend."""
    if not request.headers.get(b"content-type", b"").startswith(b"application/json"):
        return error(100, "The parameter messaging_product is required.")
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return error(100, "The body is not JSON.")
    problem = _problem(body if isinstance(body, dict) else {})
    if problem is not None:
        return problem
    number = _TO.fullmatch(body["to"])
    assert number is not None
    wamid = base64.b64encode(b"\x1d\x0b" + number[1].encode() + b"\x15\x02\x00\x11\x18\x12" + uuid4().bytes).decode()
    return ParsedSend(
        recipient=f"+{number[1]}",
        provider_message_id=f"wamid.{wamid}",
        reference=body.get("biz_opaque_callback_data"),
        **{**send, "fields": {"to": body["to"], "type": body["type"], **send.get("fields", {})}},
    )


def _problem(body: Mapping[str, Any]) -> FakeResponse | None:
    to, kind, opaque = body.get("to"), body.get("type", "text"), body.get("biz_opaque_callback_data", "")
    if body.get("messaging_product") != "whatsapp":
        return error(100, "The parameter messaging_product is required.")
    if unexpected := sorted(set(body) - _KEYS):
        return error(100, f'Unexpected key "{unexpected[0]}"')
    if body.get("recipient_type", "individual") != "individual":
        return error(100, "Param recipient_type must be one of {INDIVIDUAL}")
    if not to:
        return error(100, "The parameter to is required.")
    if not isinstance(to, str) or not _TO.fullmatch(to):
        return error(131009, "Invalid recipient phone number")
    if not isinstance(opaque, str) or len(opaque) > 512:
        return error(100, "Param biz_opaque_callback_data must be at most 512 characters long.")
    if kind not in ("text", "template") or not isinstance(body.get(kind), dict):
        return error(100, f"The parameter {kind} is required.")
    return _text_problem(body["text"]) if kind == "text" else _template_problem(body["template"])


def _text_problem(text: Mapping[str, Any]) -> FakeResponse | None:
    if set(text) - {"body", "preview_url"} or not isinstance(text.get("preview_url", False), bool):
        return error(100, "Unexpected key in param text")
    if not isinstance(text.get("body"), str) or not text["body"].strip():
        return error(100, "The parameter text['body'] is required.")
    if len(text["body"]) > 4096:
        return error(100, "Param text['body'] must be at most 4096 characters long.")
    return None


def _template_problem(template: Mapping[str, Any]) -> FakeResponse | None:
    language, components = template.get("language"), template.get("components", [])
    if set(template) - {"name", "language", "components"}:
        return error(100, "Unexpected key in param template")
    if not isinstance(template.get("name"), str) or not isinstance(language, dict) or not language.get("code"):
        return error(131008, "The parameters template['name'] and template['language'] are required.")
    if not _NAME.fullmatch(template["name"]) or not _LANGUAGE.fullmatch(str(language["code"])):
        return error(132001, f"template name ({template['name']}) does not exist in {language['code']}")
    if language.get("policy", "deterministic") != "deterministic" or not isinstance(components, list):
        return error(100, "Param template['language']['policy'] must be one of {DETERMINISTIC}")
    for component in components:
        parameters = component.get("parameters") if isinstance(component, dict) else None
        if (
            not isinstance(parameters, list)
            or not parameters
            or str(component.get("type")).lower() not in ("body", "header")
        ):
            return error(100, "Param template['components'] is not valid")
        if not all(set(one) <= {"type", "text", "parameter_name"} and one.get("text") for one in parameters):
            return error(131008, "Parameter of type text is missing text value")
    return None


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Meta's response to a send."""
    if behaviour in REFUSALS:
        code = int(rule.code) if rule.code and rule.code.isdecimal() else REFUSALS[behaviour]
        wait = {"Retry-After": f"{rule.retry_after:g}"} if behaviour is Behaviour.THROTTLE else {}
        return error(code if code in ERRORS else REFUSALS[behaviour], headers=wait)
    message = {"id": send.provider_message_id}
    if send.fields["type"] == "template":
        message["message_status"] = "accepted"
    body = {
        "messaging_product": "whatsapp",
        "contacts": [{"input": send.fields["to"], "wa_id": send.recipient.removeprefix("+")}],
        "messages": [message],
    }
    return json_response(200, body)


def write_batch(context: ReceiptContext, *, phone_number_id: str, waba: str) -> bytes | None:
    """The webhook body of one status or inbound message, escaped as Meta escapes; None where there is none."""
    send, digits = context.send, context.send.recipient.removeprefix("+")
    moment = str(int(context.at.timestamp()))
    value: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550001111", "phone_number_id": phone_number_id},
        "contacts": [{"profile": {"name": "Ann"}, "wa_id": digits}],
    }
    if context.kind == "inbound":
        text = {"body": "Grüße / STOP"}
        value["messages"] = [
            {"from": digits, "id": f"wamid.{context.receipt_id}", "timestamp": moment, "type": "text", "text": text}
        ]
    elif context.kind in STATUSES:
        word, code = STATUSES[context.kind]
        status = {"id": send.provider_message_id, "status": word, "timestamp": moment, "recipient_id": digits}
        opaque = {"biz_opaque_callback_data": send.reference} if send.reference else {}
        value["statuses"] = [{**status, **opaque, **(_status_errors(code) if code else {})}]
    else:
        return None
    entry = {"id": waba, "changes": [{"field": "messages", "value": value}]}
    batch = {"object": "whatsapp_business_account", "entry": [entry]}
    return json.dumps(batch, separators=(",", ":")).replace("/", r"\/").encode("ascii")


def _status_errors(code: int) -> dict[str, Any]:
    title = ERRORS[code][1]
    return {"errors": [{"code": code, "title": title, "message": title, "error_data": {"details": title}}]}
