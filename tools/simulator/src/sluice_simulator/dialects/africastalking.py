"""Africa's Talking's dialect. The facts are those of sluice/providers/adapters/africastalking.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4
from xml.sax.saxutils import escape

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

# name -> code of a recipient, inside of a 201
RECIPIENT_ERRORS: Mapping[str, int] = {
    "RiskHold": 401,
    "InvalidSenderId": 402,
    "InvalidPhoneNumber": 403,
    "UnsupportedNumberType": 404,
    "InsufficientBalance": 405,
    "UserInBlacklist": 406,
    "CouldNotRoute": 407,
    "DoNotDisturbRejection": 409,
    "InternalServerError": 500,
    "GatewayError": 501,
    "RejectedByGateway": 502,
}
# name -> (status, text); the bodies are plain text
HTTP_ERRORS: Mapping[str, tuple[int, str]] = {
    "missing_to": (400, "Request is missing required form field 'to'"),
    "missing_message": (400, "Request is missing required form field 'message'"),
    "authentication": (401, "The supplied authentication is invalid"),
    "not_found": (404, "The requested resource could not be found."),
    "method": (405, "HTTP method not allowed, supported methods: GET, POST"),
    "media_type": (415, "The request's Content-Type is not supported."),
    "too_many": (429, "Too many requests"),
    "internal": (500, "There was an internal server error."),
    "unavailable": (503, "The server is currently unavailable"),
}
EMPTY_LIST = "no-recipients:"  # before a word: the answer has that Message and an empty list
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "InvalidPhoneNumber",
    Behaviour.THROTTLE: "too_many",
    Behaviour.AUTH: "authentication",
    Behaviour.FAULT: "InternalServerError",
}
# kind -> (status, failureReason)
STATUSES: Mapping[str, tuple[str, str]] = {
    "sent": ("Submitted", ""),
    "delivered": ("Success", ""),
    "bounced": ("Failed", "UserDoesNotExist"),
    "soft_bounce": ("Failed", "AbsentSubscriber"),
    "failed": ("Failed", "DeliveryFailure"),
}
_NUMBER = re.compile(r"\+[1-9][0-9]{5,14}")


def _error(name: str, retry_after: float | None = None) -> FakeResponse:
    status, words = HTTP_ERRORS[name]
    headers = [("Content-Type", "text/plain; charset=UTF-8")]
    if status == 401:
        headers.append(("WWW-Authenticate", 'Basic realm="api"'))
    if retry_after is not None:
        headers.append(("Retry-After", f"{retry_after:g}"))
    return FakeResponse(status, words.encode(), tuple(headers))


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """A text, or Africa's Talking's refusal."""
    if request.path != "/version1/messaging":
        return Refused(_error("not_found"))
    if request.method != "POST":
        return Refused(_error("method"))
    if not request.headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        return Refused(_error("media_type"))
    form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
    key = request.headers.get(b"apikey", b"").decode("latin-1")
    checks = (
        (not key or not form.get("username"), "authentication"),
        (not form.get("to"), "missing_to"),
        (not form.get("message"), "missing_message"),
    )
    problem = next((name for wrong, name in checks if wrong), None)
    return Refused(_error(problem)) if problem else _send(form, request.headers.get(b"accept", b"").decode("latin-1"))


def _send(form: Mapping[str, str], accept: str) -> ParsedSend:
    send = ParsedSend(
        recipient=form["to"].partition(",")[0],
        provider_message_id=f"ATXid_{uuid4().hex}",
        account=form["username"],
        fields={
            "to": form["to"],
            "from": form.get("from", "AFRICASTKNG"),
            "enqueue": form.get("enqueue", ""),
            "xml": "" if "application/json" in accept else "yes",  # what it answers unless JSON is asked for
            "parts": str(1 + (len(form["message"]) - 1) // 153),
        },
    )
    problem = "" if all(map(_NUMBER.fullmatch, form["to"].split(","))) else "InvalidPhoneNumber"
    if form.get("from") == "":
        problem = f"{EMPTY_LIST}InvalidSenderId"
    return replace(send, forced_response=_answer(send, problem)) if problem else send


def _answer(send: ParsedSend, problem: str = "") -> FakeResponse:
    """A 201: every recipient with the error of this name, or accepted."""
    entries: list[dict[str, object]] = []
    words = problem.removeprefix(EMPTY_LIST)
    if not problem.startswith(EMPTY_LIST):
        numbers = send.fields["to"].split(",")
        sent = 0 if problem else len(numbers)
        words = f"Sent to {sent}/{len(numbers)} Total Cost: KES {0.8 * sent:.4f} Message parts: {send.fields['parts']}"
        code = RECIPIENT_ERRORS[problem] if problem else 102 if send.fields["enqueue"] == "1" else 101
        entries = [
            {
                "statusCode": code,
                "number": number,
                "status": problem or "Success",
                "cost": "0" if problem else "KES 0.8000",
                "messageId": "None" if problem else send.provider_message_id,
            }
            for number in numbers
        ]
    if send.fields["xml"]:
        return _xml(words, entries)
    return json_response(201, {"SMSMessageData": {"Message": words, "Recipients": entries}})


def _xml(words: str, entries: list[dict[str, object]]) -> FakeResponse:
    rows = "".join(
        f"<Recipient>{''.join(f'<{name}>{escape(str(value))}</{name}>' for name, value in entry.items())}</Recipient>"
        for entry in entries
    )
    data = f"<SMSMessageData><Message>{escape(words)}</Message><Recipients>{rows}</Recipients></SMSMessageData>"
    body = f'<?xml version="1.0" encoding="UTF-8"?><AfricasTalkingResponse>{data}</AfricasTalkingResponse>'
    return FakeResponse(201, body.encode(), (("Content-Type", "text/xml"),))


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Africa's Talking's response to a send."""
    if behaviour not in REFUSALS:
        return _answer(send)
    name = rule.code or REFUSALS[behaviour]
    if name in HTTP_ERRORS:
        return _error(name, rule.retry_after if behaviour is Behaviour.THROTTLE else None)
    known = name in RECIPIENT_ERRORS or name.startswith(EMPTY_LIST)
    return _answer(send, name if known else "InvalidPhoneNumber")


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send = context.send
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    if webhook is None or context.kind not in (*STATUSES, "inbound", "opt_out"):
        return None
    if context.kind == "inbound":
        fields = {"linkId": uuid4().hex, "text": "Hello", "to": send.fields["from"], "id": uuid4().hex}
        fields |= {"date": f"{context.at:%Y-%m-%d %H:%M:%S}", "from": send.recipient}
    elif context.kind == "opt_out":
        fields = {"senderId": send.fields["from"], "phoneNumber": send.recipient}
    else:
        status, reason = STATUSES[context.kind]
        fields = {"id": send.provider_message_id, "status": status, "phoneNumber": send.recipient}
        fields |= {"networkCode": "99999", "retryCount": "0"} | ({"failureReason": reason} if reason else {})
    body = urlencode(fields).encode("ascii")
    return ReceiptPayload(context.receipt_id, webhook.url, "application/x-www-form-urlencoded", body, webhook.secret)


AFRICASTALKING = Dialect(
    name="africastalking",
    package="provider-africastalking",
    transport=TransportKind.HTTP,
    default_port=2592,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(_write, in_url="token"),
)
