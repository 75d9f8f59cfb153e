"""What Twilio's channels share at the provider's end: accounts, errors, created messages, callbacks, signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import BaseModel

from sluice_simulator.dialect import (
    FakeRequest,
    FakeResponse,
    ParsedSend,
    ReceiptContext,
    ReceiptPayload,
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
    21408: (400, "Permission to send an SMS has not been enabled for the region indicated by the 'To' number."),
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
    21619: (400, "A text message body, media urls or a content sid must be specified."),
    21655: (400, "The ContentSid is not valid"),
    21656: (400, "The ContentVariables parameter is invalid"),
    21910: (400, "'From' and 'To' should be of the same channel"),
    63007: (400, "Twilio could not find a Channel with the specified From address"),
    63038: (429, "Account exceeded the daily messages limit"),
    92005: (400, "ContentVariables can only be used with a ContentSid"),
}
REFUSALS: Mapping[Behaviour, int] = {
    Behaviour.REJECT: 21211,
    Behaviour.THROTTLE: 20429,
    Behaviour.AUTH: 20003,
    Behaviour.FAULT: 20503,
}

_PATH = re.compile(r"/2010-04-01/Accounts/(AC[0-9a-fA-F]{32})/Messages\.json\Z")


class TwilioDashboard(BaseModel, extra="forbid"):
    """``auth_token`` signs receipts when the caller used an API key, whose secret does not."""

    auth_token: str | None = None


def error(code: int, retry_after: float | None = None) -> FakeResponse:
    """An error in Twilio's form."""
    status, words = ERRORS[code]
    body = {"code": code, "message": words, "more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}
    headers = {"Twilio-Concurrent-Requests": "1"}
    if retry_after is not None:
        headers["Retry-After"] = f"{retry_after:g}"
    return json_response(status, body, headers)


def read_form(request: FakeRequest) -> tuple[dict[str, str], str, str] | FakeResponse:
    """The form of a call, its account and its password; or the refusal of a call that has none of them."""
    path = _PATH.match(request.path)
    if path is None:
        return error(20404)
    if request.method != "POST":
        return error(20004)
    password = _password(request.headers.get(b"authorization", b""))
    if not password:
        return error(20003)
    return dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)), path[1], password


def _password(authorization: bytes) -> str:
    scheme, _, encoded = authorization.partition(b" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return ""
    return password if scheme == b"Basic" and user else ""


def bad_callback(form: Mapping[str, str]) -> bool:
    """Whether the form names a callback that is no web address."""
    callback = urlsplit(form.get("StatusCallback", "http://none"))
    return callback.scheme not in ("http", "https") or "_" in (callback.hostname or "_")


def reference_of(form: Mapping[str, str]) -> str | None:
    """Our reference, in the query of the callback."""
    return dict(parse_qsl(urlsplit(form.get("StatusCallback", "")).query)).get("ref")


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Twilio's response to a send."""
    if behaviour in REFUSALS:
        code = int(rule.code) if rule.code and rule.code.isdecimal() else REFUSALS[behaviour]
        wait = rule.retry_after if behaviour is Behaviour.THROTTLE else None
        return error(code if code in ERRORS else REFUSALS[behaviour], wait)
    return json_response(201, _created(send))


def _created(send: ParsedSend) -> dict[str, object]:
    now = format_datetime(datetime.now(UTC))
    service = send.fields["service"] or None
    uri = f"/2010-04-01/Accounts/{send.account}/Messages/{send.provider_message_id}"
    return {
        "sid": send.provider_message_id,
        "account_sid": send.account,
        "messaging_service_sid": service,
        "to": send.fields.get("to", send.recipient),
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


def write_callback(context: ReceiptContext, status: str, code: str | None, **more: str) -> ReceiptPayload | None:
    """A status callback; None for a call that names no address for it."""
    send, dashboard = context.send, context.dashboard
    assert isinstance(dashboard, TwilioDashboard)
    if not send.callback:
        return None
    fields = {
        "AccountSid": send.account,
        "ApiVersion": "2010-04-01",
        "From": send.fields["from"],
        "MessageSid": send.provider_message_id,
        "SmsSid": send.provider_message_id,
        "MessageStatus": status,
        "SmsStatus": status,
        "To": send.fields.get("to", send.recipient),
        **({"ErrorCode": code} if code else {}),
        **more,
    }
    body = urlencode(fields).encode("ascii")
    secret = dashboard.auth_token or send.secret
    return ReceiptPayload(context.receipt_id, send.callback, "application/x-www-form-urlencoded", body, secret)


def sign(payload: ReceiptPayload, _: datetime) -> dict[str, str]:
    """Twilio's signature, from its documentation: the URL, then every field in order, without separators."""
    signed = [payload.url]
    for name, value in sorted(dict(parse_qsl(payload.body.decode("ascii"), keep_blank_values=True)).items()):
        signed += [name, value]
    mac = hmac.new(payload.secret.encode(), "".join(signed).encode(), hashlib.sha1)
    return {"x-twilio-signature": base64.b64encode(mac.digest()).decode("ascii")}
