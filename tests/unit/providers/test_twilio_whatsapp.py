"""provider-twilio-whatsapp: the request, every documented code, the signature vector and the statuses."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from pydantic import ValidationError

from sluice.model.message import Whatsapp
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.twilio_whatsapp import TwilioWhatsappCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    UnsupportedMessageError,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Header
from tests.unit.providers.whatsapp import TEMPLATE, a_whatsapp, like

SAMPLE = Sample({"accountSid": "AC" + "0" * 32, "authToken": HIDDEN, "from": "+15550001111"})
SID = "AC" + "0" * 32
TOKEN = "unit-test-auth-token"
CONTENT = "HX" + "a" * 32
OTHER_CONTENT = "HX" + "b" * 32
FIELDS: dict[str, Any] = {
    "accountSid": SID,
    "authToken": TOKEN,
    "from": "whatsapp:+15550001111",
    "templates": {"order_update": CONTENT, "order_update:de": OTHER_CONTENT},
}
CREDENTIALS = TwilioWhatsappCredentials.model_validate(FIELDS)
CALLBACK = "https://hooks.example.test/v1/receipts/prv_1"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def with_fields(**changes: Any) -> TwilioWhatsappCredentials:
    return TwilioWhatsappCredentials.model_validate({**FIELDS, **changes})


def form_of(request: httpx.Request) -> dict[str, str]:
    return dict(parse_qsl(request.content.decode(), keep_blank_values=True, strict_parsing=True))


# The request


def test_a_text_is_in_the_form() -> None:
    request = build(a_whatsapp(Whatsapp(text="Grüße & +mehr 🙂"), callback_url=CALLBACK), CREDENTIALS)

    assert request.method == "POST"
    assert str(request.url) == f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Messages.json"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert httpx.BasicAuth(SID, TOKEN)._auth_header == request.headers["authorization"]
    assert b"To=whatsapp%3A%2B15557654321" in request.content
    assert form_of(request) == {
        "To": "whatsapp:+15557654321",
        "From": "whatsapp:+15550001111",
        "Body": "Grüße & +mehr 🙂",
        "StatusCallback": f"{CALLBACK}?ref=msg_01",
    }


def test_a_template_is_a_content_template_with_its_variables() -> None:
    form = form_of(build(a_whatsapp(TEMPLATE), CREDENTIALS))

    assert json.loads(form.pop("ContentVariables")) == {"1": "Ann", "2": "A-17 ünï 🙂"}
    assert form == {"To": "whatsapp:+15557654321", "From": "whatsapp:+15550001111", "ContentSid": CONTENT}


@pytest.mark.parametrize(
    ("name", "language", "sid"),
    [
        ("order_update", "en", CONTENT),
        ("order_update", "de", OTHER_CONTENT),
        ("order_update", None, CONTENT),
        (OTHER_CONTENT, "en", OTHER_CONTENT),
    ],
)
def test_the_settings_name_the_content_template(name: str, language: str | None, sid: str) -> None:
    template = Whatsapp(template_name=name, template_language=language)

    form = form_of(build(a_whatsapp(template), CREDENTIALS))

    assert form["ContentSid"] == sid
    assert "ContentVariables" not in form
    assert "Body" not in form


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"from": "+15550002222"}, {"From": "whatsapp:+15550002222"}),
        ({"from": None, "messagingServiceSid": "MG" + "a" * 32}, {"MessagingServiceSid": "MG" + "a" * 32}),
        (
            {"messagingServiceSid": "MG" + "a" * 32},
            {"MessagingServiceSid": "MG" + "a" * 32, "From": "whatsapp:+15550001111"},
        ),
    ],
)
def test_the_sender_is_the_accounts(fields: dict[str, Any], expected: dict[str, str]) -> None:
    form = form_of(build(a_whatsapp(), with_fields(**fields)))

    assert {name: form[name] for name in form if name in ("From", "MessagingServiceSid")} == expected


@pytest.mark.parametrize(
    "message",
    [
        outbound(an_sms()),
        a_whatsapp(Whatsapp()),
        a_whatsapp(Whatsapp(text="\ud800")),
        a_whatsapp(Whatsapp(template_name="order_update", template_params=("\ud800",))),
        a_whatsapp(Whatsapp(template_name="unknown", template_language="en")),
        a_whatsapp(Whatsapp(template_name="HX1", template_language="en")),
        a_whatsapp(recipient="US.134912"),
        a_whatsapp(recipient="whatsapp:+15557654321"),
    ],
)
def test_what_it_cannot_carry_is_refused(message: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(message, CREDENTIALS)


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"accountSid": "AC1"}, ("accountSid",)),
        ({"authToken": None}, ()),
        ({"from": None}, ()),
        ({"from": "ACME"}, ("from",)),
        ({"from": "whatsapp:15550001111"}, ("from",)),
        ({"messagingServiceSid": "MG1"}, ("messagingServiceSid",)),
        ({"templates": {"order_update": "HX1"}}, ("templates", "order_update")),
        ({"surprise": 1}, ("surprise",)),
    ],
)
def test_credentials_that_cannot_work_are_refused(fields: dict[str, Any], location: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as error:
        with_fields(**fields)

    assert [found["loc"] for found in error.value.errors()] == [location]


# Answers

INVALID, POLICY, UNSUPPORTED = (
    Declined(Reason.INVALID_CONTENT),
    Declined(Reason.POLICY),
    Declined(Reason.UNSUPPORTED),
)
TRIAL = Declined(Reason.REPUTATION, scope=Scope.ACCOUNT)
NO_RECIPIENT = RecipientRejected(Reason.UNKNOWN_RECIPIENT)
DAY = Throttled(retry_after=timedelta(hours=1))
# Every row of the sheet.
ROWS: list[tuple[int, Outcome]] = [
    (20003, AuthFailed()),
    (20404, AuthFailed()),
    (20422, INVALID),
    (20429, Throttled()),
    (20500, Unknown()),
    (20503, ProviderFault()),
    (21211, RecipientRejected(Reason.INVALID_ADDRESS)),
    (21212, AuthFailed()),
    (21606, AuthFailed()),
    (21408, UNSUPPORTED),
    (21602, INVALID),
    (21619, INVALID),
    (21603, AuthFailed()),
    (21608, TRIAL),
    (21609, AuthFailed()),
    (21610, RecipientRejected(Reason.UNSUBSCRIBED)),
    (21611, Throttled()),
    (21612, UNSUPPORTED),
    (21614, NO_RECIPIENT),
    (21617, Declined(Reason.TOO_LARGE)),
    (21620, INVALID),
    (21654, INVALID),
    (21655, UNSUPPORTED),
    (21656, INVALID),
    (21658, Declined(Reason.TOO_LARGE)),
    (21701, AuthFailed()),
    (21703, AuthFailed()),
    (21704, AuthFailed()),
    (21910, AuthFailed()),
    (92005, INVALID),
    (30001, Throttled()),
    (30002, AuthFailed()),
    (63001, AuthFailed()),
    (63002, AuthFailed()),
    (63007, AuthFailed()),
    (63003, NO_RECIPIENT),
    (63005, INVALID),
    (63008, AuthFailed()),
    (63009, ProviderFault()),
    (63010, ProviderFault()),
    (63012, ProviderFault()),
    (63013, POLICY),
    (63014, RecipientRejected(Reason.BLOCKED)),
    (63015, TRIAL),
    (63016, POLICY),
    (63017, Throttled()),
    (63018, Throttled()),
    (63019, INVALID),
    (63021, INVALID),
    (63034, Declined(Reason.TOO_LARGE)),
    (63023, ProviderFault()),
    (63024, NO_RECIPIENT),
    (63027, UNSUPPORTED),
    (63028, INVALID),
    (63030, UNSUPPORTED),
    (63031, Declined(Reason.INVALID_ADDRESS)),
    (63032, POLICY),
    (63038, DAY),
    (63040, POLICY),
    (63041, POLICY),
    (63042, POLICY),
    (63049, POLICY),
    (63119, Throttled()),
    (63000, ProviderFault()),
    (63999, ProviderFault()),
]


@pytest.mark.parametrize(("code", "outcome"), ROWS)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_the_code_decides_whatever_the_status(code: int, outcome: Outcome, status: int) -> None:
    body = {"code": code, "message": "words", "more_info": "https://x", "status": status}

    found = classify(httpx.Response(status, json=body))

    assert like(found, outcome)
    assert not isinstance(found, Accepted)
    assert found.detail == f"{status} {code} words"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, Declined), (405, Declined), (422, Declined), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed)],
        *[(409, Unknown), (429, Throttled), (500, Unknown), (502, Unknown), (503, Unknown), (504, Unknown)],
        (302, Unknown),
    ],
)
@pytest.mark.parametrize("body", ["", "<h1>words</h1>", "{}", '{"code":99999}', '{"code":"x"}', '{"code":null}', "[1]"])
def test_without_a_known_code_the_status_decides(status: int, outcome: type[Outcome], body: str) -> None:
    assert type(classify(httpx.Response(status, text=body))) is outcome


def test_the_newer_form_of_an_error_is_read_too() -> None:
    body = {"type": "https://x", "title": "Opted out", "status": 400, "code": "21610", "detail": "said STOP"}

    assert classify(httpx.Response(400, json=body)) == RecipientRejected(Reason.UNSUBSCRIBED, "400 21610 said STOP")


def created(**changes: Any) -> dict[str, Any]:
    return {"sid": "MM" + "1" * 32, "status": "queued", "error_code": None} | changes


@pytest.mark.parametrize("status", ["queued", "accepted", "scheduled"])
def test_a_201_with_a_sid_is_accepted(status: str) -> None:
    assert classify(httpx.Response(201, json=created(status=status))) == Accepted("MM" + "1" * 32)


@pytest.mark.parametrize("status", ["failed", "undelivered"])
@pytest.mark.parametrize(("code", "outcome"), [*ROWS, (None, ProviderFault()), (99999, ProviderFault())])
def test_a_message_that_was_created_as_failed_is_no_acceptance(status: str, code: int, outcome: Outcome) -> None:
    assert like(classify(httpx.Response(201, json=created(status=status, error_code=code))), outcome)


@pytest.mark.parametrize("content", [b"", b"<html>", b"{}", b"[]", b'{"sid":"MM1"}', b'{"sid":7}'])
@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_2xx_that_is_not_the_documented_one_is_unknown(status: int, content: bytes) -> None:
    assert isinstance(classify(httpx.Response(status, content=content)), Unknown)


def test_a_retry_after_is_honoured() -> None:
    outcome = classify(httpx.Response(429, headers={"Retry-After": "7"}, json={"code": 20429}))

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == timedelta(seconds=7)


# Receipts

VECTOR_URL = "https://hooks.example.test/twilio/status?mid=msg_01&tenant=acme"
VECTOR = {
    "AccountSid": SID,
    "ApiVersion": "2010-04-01",
    "ChannelInstallSid": "XE" + "0" * 32,
    "ChannelPrefix": "whatsapp",
    "ChannelToAddress": "+1555765XXXX",
    "EventType": "READ",
    "From": "whatsapp:+15550001111",
    "MessageSid": "SM" + "a" * 32,
    "SmsSid": "SM" + "a" * 32,
    "MessageStatus": "read",
    "SmsStatus": "read",
    "To": "whatsapp:+15557654321",
}
OURS = f"{CALLBACK}?ref=msg_01"


def signature_of(url: str, fields: dict[str, str], token: str = TOKEN) -> str:
    """Written from the sheet's recipe, apart from the package's own code."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), sha1).digest()).decode()


def read(url: str, signature: str, fields: dict[str, str]) -> list[DeliveryReceipt]:
    request = a_receipt(url, {**FORM, "x-twilio-signature": signature}, urlencode(fields).encode())
    return parse_webhook(request, CREDENTIALS, {}).receipts


def said(status: str, **fields: str) -> list[DeliveryReceipt]:
    form = {"MessageSid": "SM1", "MessageStatus": status, "To": "whatsapp:+15557654321", **fields}
    return read(OURS, signature_of(OURS, form), form)


@pytest.mark.parametrize("url", [VECTOR_URL, VECTOR_URL.replace("example.test", "example.test:443")])
def test_the_vector_of_the_fact_sheet_is_genuine(url: str) -> None:
    types = [receipt.type for receipt in read(url, "NFP+QJ9TYysawEFCOptw+EIOzkE=", VECTOR)]

    assert types == [EventType.DELIVERED, EventType.READ]


def sign_form(request: WebhookRequest, key: str) -> WebhookRequest:
    signature = signature_of(request.url, dict(parse_qsl(request.body.decode())), key)
    return replace(request, headers={**request.headers, "x-twilio-signature": signature})


GENUINE = [
    Genuine(
        a_receipt(OURS, FORM, urlencode(VECTOR).encode()),
        Header("x-twilio-signature"),
        sign_form,
        key=TOKEN,
        other_key="another-auth-token",
        secret="authToken",
        credentials={"apiKeySid": "SK" + "b" * 32, "apiKeySecret": "x"},
        covers_url=True,
    )
]


def test_without_the_auth_token_nothing_is_believed() -> None:
    credentials = with_fields(authToken=None, apiKeySid="SK" + "b" * 32, apiKeySecret=TOKEN)
    request = a_receipt(OURS, {**FORM, "x-twilio-signature": signature_of(OURS, VECTOR)}, urlencode(VECTOR).encode())

    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(request, credentials, {})


def test_a_signed_receipt_is_understood() -> None:
    (receipt,) = said("undelivered", ErrorCode="63024", ChannelStatusMessage="no account of +15557654321")

    assert receipt == DeliveryReceipt(
        receipt_id="SM1:failed",
        type=EventType.FAILED,
        reason=Reason.UNKNOWN_RECIPIENT,
        reference="msg_01",
        provider_message_id="SM1",
        recipient="+15557654321",
        detail="undelivered 63024 no account of <number>",
    )


@pytest.mark.parametrize(
    ("status", "fields", "kinds"),
    [
        *(
            (status, {}, [])
            for status in ("accepted", "scheduled", "queued", "sending", "receiving", "received", "new")
        ),
        ("partially_delivered", {}, []),
        ("", {}, []),
        ("sent", {}, [EventType.SENT]),
        ("delivered", {"EventType": "DELIVERED"}, [EventType.DELIVERED]),
        ("read", {"EventType": "READ"}, [EventType.DELIVERED, EventType.READ]),
        ("delivered", {"EventType": "READ"}, [EventType.DELIVERED, EventType.READ]),
        ("failed", {}, [EventType.FAILED]),
        ("undelivered", {}, [EventType.FAILED]),
        ("canceled", {}, [EventType.FAILED]),
    ],
)
def test_every_status_has_its_events(status: str, fields: dict[str, str], kinds: list[EventType]) -> None:
    assert [receipt.type for receipt in said(status, **fields)] == kinds


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        *((str(code), getattr(outcome, "reason", None)) for code, outcome in ROWS),
        *[("63001", Reason.CREDENTIALS), ("63018", Reason.QUOTA), ("63009", Reason.NETWORK)],
        *[("", Reason.OTHER), ("x", Reason.OTHER), ("99999", Reason.OTHER)],
    ],
)
def test_a_failed_receipt_names_its_reason(code: str, reason: Reason | None) -> None:
    (receipt,) = said("undelivered", ErrorCode=code)

    assert receipt.reason is not None
    assert reason in (None, receipt.reason)


def test_repeats_are_equal_and_later_states_are_not() -> None:
    assert said("sent")[0].receipt_id == said("sent")[0].receipt_id != said("delivered")[0].receipt_id
    assert said("read")[0].receipt_id == said("delivered")[0].receipt_id
    assert said("failed")[0].receipt_id == said("undelivered")[0].receipt_id
