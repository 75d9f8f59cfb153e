"""Twilio's dialect for SMS. The facts are those of sluice/providers/adapters/twilio_sms.py."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

from pydantic import BaseModel

from sluice.providers.adapters._twilio import sign
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
from sluice_simulator.scenario import Behaviour, Rule

# code -> (status, text)
ERRORS: Mapping[int, tuple[int, str]] = {
    20003: (401, "Authenticate"),
    20404: (404, "The requested resource was not found"),
    20004: (405, "Method not allowed"),
    20429: (429, "Too Many Requests"),
    20500: (500, "Internal Server Error"),
    20503: (503, "Service unavailable"),
    21211: (400, "The 'To' number is not a valid phone number."),
    21212: (400, "The 'From' number is not a valid phone number, shortcode, or alphanumeric sender ID."),
    21408: (
        400,
        "Permission to send an SMS has not been enabled for the region indicated by the 'To' number.",
    ),
    21602: (400, "Message body is required."),
    21603: (400, "A 'From' phone number is required."),
    21604: (400, "A 'To' phone number is required."),
    21606: (400, "The 'From' phone number provided is not a valid message-capable Twilio phone number."),
    21609: (400, "The 'StatusCallback' URL is not a valid URL."),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21611: (429, "This 'From' number has exceeded the maximum number of queued messages"),
    21612: (400, "Message cannot be sent with the current combination of 'To' and 'From' parameters"),
    21614: (400, "'To' number is not a valid mobile number"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit."),
}
REFUSALS: Mapping[Behaviour, int] = {
    Behaviour.REJECT: 21211,
    Behaviour.THROTTLE: 20429,
    Behaviour.AUTH: 20003,
    Behaviour.FAULT: 20503,
}
# Twilio's own test numbers, with their fixed errors.
TEST_FROM: Mapping[str, int] = {"+15005550001": 21212, "+15005550007": 21606, "+15005550008": 21611}
TEST_TO: Mapping[str, int] = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
STATUSES: Mapping[str, tuple[str, str | None]] = {
    "sent": ("sent", None),
    "delivered": ("delivered", None),
    "bounced": ("undelivered", "30005"),
    "soft_bounce": ("undelivered", "30003"),
    "failed": ("failed", "30008"),
    "read": ("read", None),
}


class TwilioDashboard(BaseModel, extra="forbid"):
    """``auth_token`` signs receipts when the caller used an API key, whose secret does not."""

    auth_token: str | None = None


_PATH = re.compile(r"/2010-04-01/Accounts/(AC[0-9a-fA-F]{32})/Messages\.json\Z")


def _error(code: int, retry_after: float | None = None) -> FakeResponse:
    status, words = ERRORS[code]
    body = {
        "code": code,
        "message": words,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    headers = {"Twilio-Concurrent-Requests": "1"}
    if retry_after is not None:
        headers["Retry-After"] = f"{retry_after:g}"
    return json_response(status, body, headers)


def read(request: FakeRequest) -> ParsedSend | Refused:
    """A text with its callback, or Twilio's refusal."""
    path = _PATH.match(request.path)
    if path is None:
        return Refused(_error(20404))
    if request.method != "POST":
        return Refused(_error(20004))
    password = _password(request.headers.get(b"authorization", b""))
    if not password:
        return Refused(_error(20003))
    form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
    problem = _problem(form)
    return Refused(_error(problem)) if problem else _send(form, path[1], password)


def _password(authorization: bytes) -> str:
    scheme, _, encoded = authorization.partition(b" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return ""
    return password if scheme == b"Basic" and user else ""


def _problem(form: Mapping[str, str]) -> int | None:
    to, sender = form.get("To", ""), form.get("From", "")
    callback = urlsplit(form.get("StatusCallback", "http://none"))
    checks = (
        (not to, 21604),
        (not (sender or form.get("MessagingServiceSid")), 21603),
        (not form.get("Body"), 21602),
        (len(form.get("Body", "")) > 1600, 21617),
        (not re.fullmatch(r"\+[1-9]\d{5,14}", to) or to == sender, 21211),
        (callback.scheme not in ("http", "https") or "_" in (callback.hostname or "_"), 21609),
    )
    return next((code for wrong, code in checks if wrong), None)


def _send(form: Mapping[str, str], account: str, password: str) -> ParsedSend:
    callback = form.get("StatusCallback")
    test = TEST_FROM.get(form.get("From", "")) or TEST_TO.get(form["To"])
    return ParsedSend(
        recipient=form["To"],
        provider_message_id=f"SM{uuid4().hex}",
        reference=dict(parse_qsl(urlsplit(callback or "").query)).get("ref"),
        account=account,
        secret=password,
        callback=callback,
        forced_response=_error(test) if test else None,
        fields={
            "from": form.get("From", ""),
            "service": form.get("MessagingServiceSid", ""),
            "body": form["Body"],
        },
    )


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Twilio's response to a send."""
    if behaviour in REFUSALS:
        code = int(rule.code) if rule.code and rule.code.isdecimal() else REFUSALS[behaviour]
        wait = rule.retry_after if behaviour is Behaviour.THROTTLE else None
        return _error(code if code in ERRORS else REFUSALS[behaviour], wait)
    return json_response(201, _created(send))


def _created(send: ParsedSend) -> dict[str, object]:
    now = format_datetime(datetime.now(UTC))
    service = send.fields["service"] or None
    uri = f"/2010-04-01/Accounts/{send.account}/Messages/{send.provider_message_id}"
    return {
        "sid": send.provider_message_id,
        "account_sid": send.account,
        "messaging_service_sid": service,
        "to": send.recipient,
        "from": send.fields["from"] or None,
        "body": send.fields["body"],
        "status": "accepted" if service else "queued",
        "num_segments": "0" if service else str(1 + (len(send.fields["body"]) - 1) // 153),
        "num_media": "0",
        "direction": "outbound-api",
        "api_version": "2010-04-01",
        "price": None,
        "price_unit": "USD",
        "error_code": None,
        "error_message": None,
        "date_created": now,
        "date_updated": now,
        "date_sent": None,
        "uri": uri + ".json",
        "subresource_uris": {"media": uri + "/Media.json"},
    }


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send, dashboard = context.send, context.dashboard
    assert isinstance(dashboard, TwilioDashboard)
    if not send.callback or context.kind not in STATUSES:
        return None
    status, code = STATUSES[context.kind]
    fields = {
        "AccountSid": send.account,
        "ApiVersion": "2010-04-01",
        "From": send.fields["from"],
        "MessageSid": send.provider_message_id,
        "SmsSid": send.provider_message_id,
        "MessageStatus": status,
        "SmsStatus": status,
        "To": send.recipient,
        **({"ErrorCode": code} if code else {}),
        **({"RawDlrDoneDate": context.at.strftime("%y%m%d%H%M")} if status in ("delivered", "undelivered") else {}),
    }
    body = urlencode(fields).encode("ascii")
    secret = dashboard.auth_token or send.secret
    return ReceiptPayload(context.receipt_id, send.callback, "application/x-www-form-urlencoded", body, secret)


def _sign(payload: ReceiptPayload, _: datetime) -> dict[str, str]:
    fields = parse_qsl(payload.body.decode("ascii"), keep_blank_values=True)
    return {"x-twilio-signature": sign(payload.secret, payload.url, fields)}


TWILIO = Dialect(
    name="twilio",
    package="provider-twilio",
    transport=TransportKind.HTTP,
    default_port=2581,
    read=read,
    respond=respond,
    declines={
        Behaviour.DECLINE: "21617",
        Behaviour.DECLINE_ACCOUNT: '400 {"code":21608,"message":"The number is unverified. Trial accounts cannot '
        'send messages to unverified numbers.","status":400}',
    },
    receipts=ReceiptDialect(_write, _sign, "x-twilio-signature", other_body=lambda body: body + b"&Extra=1"),
    dashboard=TwilioDashboard,
)
