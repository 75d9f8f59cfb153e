"""provider-termii: the request, every documented error text and status, the signature vectors, and the receipts."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.termii import TermiiCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InboundMessage,
    InvalidReceiptSignatureError,
    UnsupportedMessageError,
    WebhookEvent,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_email, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Header, Parameter

SAMPLE = Sample({"apiKey": HIDDEN, "senderId": "ACME", "webhookSecret": HIDDEN}, webhook_secret=HIDDEN)
TOKEN = "token-0123456789abc"
FIELDS: dict[str, Any] = {"apiKey": "TLkey", "senderId": "ACME", "channel": "dnd", "webhookSecret": "whsec-example"}
CREDENTIALS = TermiiCredentials.model_validate(FIELDS)
URL = "https://hooks.example.test/receipts/prv_1"


def account(**changes: Any) -> TermiiCredentials:
    return TermiiCredentials.model_validate({**FIELDS, **changes})


def fields_of(request: httpx.Request) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(request.content)
    return fields


# Credentials and the request


def test_the_whole_request() -> None:
    request = build(outbound(an_sms(text="Your code is 4711"), recipient="+2348012345678"), CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", "https://api.ng.termii.com/api/sms/send")
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"
    assert "authorization" not in request.headers
    assert fields_of(request) == {
        "api_key": "TLkey",
        "to": "2348012345678",
        "from": "ACME",
        "sms": "Your code is 4711",
        "type": "plain",
        "channel": "dnd",
    }


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Grüße @ 5 €: [ok] {a|b} ~^\\", "plain"),
        ("ΔΦΓΛΩΠΨΣΘΞ", "plain"),
        ("çÇ", "unicode"),  # GSM has the capital letter only
        ("naïve", "unicode"),
        ("₦ 500", "unicode"),
        ("🙂", "unicode"),
        ("\x1b", "unicode"),
        ("a" * 5000, "plain"),
        ("ń" * 5000, "unicode"),
    ],
)
def test_a_text_outside_of_gsm7_is_sent_as_unicode(text: str, kind: str) -> None:
    fields = fields_of(build(outbound(an_sms(text=text)), CREDENTIALS))

    assert (fields["sms"], fields["type"]) == (text, kind)


@pytest.mark.parametrize(
    ("channel", "kind"), [("generic", "plain"), ("dnd", "plain"), ("whatsapp", "plain"), ("voice", "voice")]
)
def test_the_accounts_route_is_named(channel: str, kind: str) -> None:
    fields = fields_of(build(outbound(an_sms()), account(channel=channel)))

    assert (fields["channel"], fields["type"]) == (channel, kind)


def test_the_route_is_generic_unless_another_is_named() -> None:
    assert TermiiCredentials.model_validate({"apiKey": "k", "senderId": "ACME"}).channel == "generic"


def test_the_base_url_is_the_accounts() -> None:
    request = build(outbound(an_sms()), account(baseUrl="https://v4.api.termii.com/"))

    assert str(request.url) == "https://v4.api.termii.com/api/sms/send"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"senderId": "AB"}, "senderId"),
        ({"senderId": "ABCDEFGHIJKL"}, "senderId"),
        ({"senderId": "AC\nME"}, "senderId"),
        ({"senderId": None}, "senderId"),
        ({"apiKey": None}, "apiKey"),
        ({"channel": "carrier-pigeon"}, "channel"),
        ({"baseUrl": "ftp://x"}, "baseUrl"),
        ({"baseUrl": "https://user:pass@x"}, "baseUrl"),
        ({"webhookToken": "short"}, "webhookToken"),
        ({"signatureMode": "maybe"}, "signatureMode"),
        ({"signatureMode": "log"}, "signatureMode"),
        ({"from": "ACME"}, "from"),
    ],
)
def test_credentials_that_cannot_work_are_refused_by_their_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        account(**fields)


def test_a_whatsapp_device_has_a_name_of_another_form() -> None:
    assert account(channel="whatsapp", senderId="Acme's phone no. 1").sender_id == "Acme's phone no. 1"


@pytest.mark.parametrize("message", [outbound(an_email()), outbound(an_sms(text="half \ud83d"))])
def test_what_it_cannot_send_is_refused(message: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(message, CREDENTIALS)


# Responses


LONG_ID = "902026010211300900000000001"  # beyond 64 bits and beyond what a float holds


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    ("content", "message_id"),
    [
        (b'{"code":"ok","message_id":"3017","message":"Successfully Sent","balance":9,"user":"A"}', "3017"),
        (b'{"code":"ok","message_id":902026010211300900000000001}', LONG_ID),
        (b'{"code":"ok","message_id":9.02e+26,"message_id_str":"902026010211300900000000001"}', LONG_ID),
        (b'{"code":"OK","message_id":3017}', "3017"),
        (b'{"message_id":"3017","message":"Successfully Sent"}', "3017"),
    ],
)  # fmt: skip
def test_an_id_is_kept_whole_and_leads_the_receipts_here(status: int, content: bytes, message_id: str) -> None:
    assert classify(httpx.Response(status, content=content)) == Accepted(message_id, (message_id,))


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"<html>", b"{}", b"[]", b'{"code":"ok"}', b'{"code":"ok","message_id":""}', b'{"message_id":null}'],
        *[b'{"message_id":["1"]}', b'{"message_id":{"a":1}}', b'{"message_id":true}', b'{"message_id":"a b"}'],
        *[b'{"message_id":"1\\u0000"}', b'{"code":"error","message_id":"3017"}', b'{"message":"Queued"}'],
        *[b"[" * 30_000, b'{"message_id":' + b"9" * 5000 + b"}", b'{"message_id":NaN}', b'{"message":"\\ud800"}'],
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_2xx_that_is_not_the_documented_success_is_unknown(status: int, content: bytes) -> None:
    assert isinstance(classify(httpx.Response(status, content=content)), Unknown)


ACCOUNT_SENDER = Declined(Reason.SENDER, scope=Scope.ACCOUNT)
NO_BALANCE = Declined(Reason.QUOTA, scope=Scope.ACCOUNT)
BAD_NUMBER = RecipientRejected(Reason.INVALID_ADDRESS)
TEXTS: list[tuple[str, Refusal]] = [
    ("Unauthorized", AuthFailed()),
    ("Your account is not active, please contact support", AuthFailed()),
    ("Oops! You are not set up on this route.", AuthFailed()),
    ("Invalid Sender ID", ACCOUNT_SENDER),
    ("invalid sender id: ACME", ACCOUNT_SENDER),
    ("Device not found", ACCOUNT_SENDER),
    ("Insufficient balance", NO_BALANCE),
    ("Insufficient funds", NO_BALANCE),
    ("You have insufficient sms credit", NO_BALANCE),
    ("Account balance is insufficient", NO_BALANCE),
    ("This device has REACHED THE DAILY LIMIT", Throttled(retry_after=timedelta(hours=1))),
    ("Invalid phone number", BAD_NUMBER),
    ("The phone number is invalid", BAD_NUMBER),
    ("The to field is invalid", BAD_NUMBER),
    ("invalid value for 'to'", BAD_NUMBER),
    ("to is invalid", BAD_NUMBER),
    ("Phone number is required", Declined(Reason.INVALID_CONTENT)),
    ("The to field is required.", Declined(Reason.INVALID_CONTENT)),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
@pytest.mark.parametrize("status", [200, 400, 401, 404, 422, 500])
def test_the_text_decides_whatever_the_status(text: str, expected: Refusal, status: int) -> None:
    outcome = classify(httpx.Response(status, json={"message": text, "code": "error"}))

    assert outcome == replace(expected, detail=f"{status} {text}")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, Declined), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed), (405, AuthFailed), (422, Declined)],
        *[(429, Throttled), (500, Unknown), (502, Unknown), (503, ProviderFault), (504, Unknown)],
        *[(302, Unknown), (418, Unknown)],
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        *["", "<h1>words</h1>", "{}", '{"message":7}', '{"message":null}', "[1]"],
        '{"message":"Invalid json: unable to parse"}',  # "to" and "invalid", and nothing about a recipient
        '{"message":"Invalid API token"}',
    ],
)
def test_without_a_known_text_the_status_decides(status: int, outcome: type[Outcome], body: str) -> None:
    assert type(classify(httpx.Response(status, text=body))) is outcome


@pytest.mark.parametrize(("headers", "wait"), [({"retry-after": "7"}, timedelta(seconds=7)), ({}, None)])
def test_a_retry_after_is_used_where_there_is_one(headers: dict[str, str], wait: timedelta | None) -> None:
    assert classify(httpx.Response(429, headers=headers)) == Throttled("429 without a documented error", wait)


def test_a_wrong_field_does_not_suspend_the_account() -> None:
    assert classify(httpx.Response(422, json={"message": "The sms field is required."})) == Declined(
        Reason.INVALID_CONTENT, "422 The sms field is required."
    )


# Receipts

BODY_A = (
    b'{"type":"outbound","message_id":"902022080211300900000078460","message_id_str":"902022080211300900000078460",'
    b'"receiver":"2348147386362","sender":"MAlert","message":"Hi there, testing Gotrade",'
    b'"sent_at":"2022-08-02 11:30:11",'
    b'"cost":"3.9","pages":"1","command":"deliver","status":"DELIVERED | Message delivered to handset","channel":"DND",'
    b'"msgtype":5,"origid":"902022080211300900000078460","messagestate":"Delivered",'
    b'"notify_id":"902022080211300900000078460"}'
)
SIGNATURE_A = (
    "579043641c936fc8ce54c0ec4a8f00c09a288334516bbf426757cd19f602eded"
    "76bdd5419b63a158b73a1f3409e2a9677a4b0e17cf13d30b4bf8a9d0000c730f"
)
BODY_B = (
    b'{"type":"outbound","message_id":"3017","receiver":"2348012345678",'
    b'"status":"DELIVERED | Message delivered to handset"}'
)
SIGNATURE_B = (
    "af40a91d569287a05a443879692b1826aff1d5326080fc51e7539c911a64286a"
    "a70a53bfb20219935bf781f33d39c9a608428c90bd811fcb4e85637307b374fa"
)


def sign(request: WebhookRequest, key: str) -> WebhookRequest:
    """Written from the documented recipe, apart from the package's own code."""
    signature = hmac.new(key.encode(), request.body, "sha512").hexdigest()
    return replace(request, headers={**request.headers, "x-termii-signature": signature})


def with_token(request: WebhookRequest, key: str) -> WebhookRequest:
    return replace(request, url=f"{URL}?token={key}")


GENUINE = [
    Genuine(
        a_receipt(URL, {}, BODY_B),
        Header("x-termii-signature"),
        sign,
        key="whsec-example",
        other_key="whsec-examplf",
        secret="webhookSecret",
        ignores_case=True,
    ),
    Genuine(
        a_receipt(URL, {}, BODY_B),
        Parameter("token"),
        with_token,
        key=TOKEN,
        other_key=TOKEN + "x",
        secret="webhookToken",
        credentials={"webhookSecret": None},
        covers_body=False,
    ),
]


@pytest.mark.parametrize(
    ("secret", "body", "signature"), [("termii", BODY_A, SIGNATURE_A), ("whsec-example", BODY_B, SIGNATURE_B)]
)
@pytest.mark.parametrize("change", [str, str.upper])
def test_the_vectors_of_the_fact_sheet_are_genuine(secret: str, body: bytes, signature: str, change: Any) -> None:
    request = a_receipt(URL, {"x-termii-signature": change(signature)}, body)

    (receipt,) = parse_webhook(request, account(webhookSecret=secret), {}).receipts

    assert receipt.type is EventType.DELIVERED


def events(body: Any, **changes: Any) -> list[WebhookEvent]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return list(parse_webhook(sign(a_receipt(URL, {}, content), "whsec-example"), account(**changes), {}).events)


def event(status: Any = "Delivered", **changes: Any) -> dict[str, Any]:
    return {"type": "outbound", "message_id": "3017", "receiver": "2348012345678", "status": status, **changes}


def test_a_signed_receipt_is_understood() -> None:
    assert events(BODY_B) == [
        DeliveryReceipt(
            receipt_id="3017:delivered",
            type=EventType.DELIVERED,
            provider_message_id="3017",
            recipient="+2348012345678",
            detail="DELIVERED | Message delivered to handset",
        )
    ]


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        ("Message Sent", EventType.SENT, None),
        ("Sent", EventType.SENT, None),
        ("Delivered", EventType.DELIVERED, None),
        ("DELIVERED | Message delivered to handset", EventType.DELIVERED, None),
        ("Message Failed", EventType.SOFT_BOUNCE, Reason.NETWORK),
        ("Failed", EventType.FAILED, Reason.OTHER),
        ("EXPIRED | Message has expired", EventType.SOFT_BOUNCE, Reason.EXPIRED),
        ("DND Active on Phone Number", EventType.BOUNCED, Reason.POLICY),
        (" rejected ", EventType.BOUNCED, Reason.POLICY),
        ("Undelivered", EventType.FAILED, Reason.UNREACHABLE),
        ("UNDELIVERABLE|x", EventType.FAILED, Reason.UNREACHABLE),
    ],
)
def test_every_status_in_any_case_and_with_its_explanation(status: str, kind: EventType, reason: Reason | None) -> None:
    (receipt,) = events(event(status))

    assert isinstance(receipt, DeliveryReceipt)
    assert (receipt.type, receipt.reason, receipt.detail) == (kind, reason, status.strip())


@pytest.mark.parametrize(
    "body",
    [
        event(type=None),
        event("", messagestate="Delivered"),
        event("In a new word", messagestate="DELIVERED"),
        event(message_id=3017),
        event(message_id=1, message_id_str="3017"),
        {"event": "x", "data": event()},
        {key: value for key, value in event().items() if key != "type"},
    ],
)
def test_a_receipt_may_have_any_of_the_forms_that_were_seen(body: Any) -> None:
    (receipt,) = events(body)

    assert isinstance(receipt, DeliveryReceipt)
    assert (receipt.type, receipt.provider_message_id) == (EventType.DELIVERED, "3017")


def test_an_id_beyond_64_bits_is_kept_whole() -> None:
    (receipt,) = events(b'{"message_id":902026010211300900000000001,"status":"Sent"}')

    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.provider_message_id == "902026010211300900000000001"


def test_an_inbound_message() -> None:
    body = event("Received", type="inbound", message_id="77", sender="2348012345678", receiver="ACME", message="STOP")

    assert events(body) == [InboundMessage("77", "+2348012345678", "STOP", "ACME")]


@pytest.mark.parametrize(
    "body",
    [
        *[event("A new word"), event("Received"), event(""), event(status=7), event(message_id=None)],
        *[event(message_id="a b"), event(message_id=["3017"]), event(type="device_status"), event(type="inbound")],
        *[{}, [], b"not json", b"\xff\xfe", b"", b"[" * 30_000, {"data": []}, {"data": {}}],
    ],
)
def test_a_genuine_event_that_says_nothing_about_a_message_is_no_receipt(body: Any) -> None:
    assert events(body) == []


def test_the_detail_has_no_number() -> None:
    (receipt,) = events(event("Failed | +2348012345678 is off"))

    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.detail == "Failed | <number> is off"


# Which proof is asked for


@pytest.mark.parametrize("change", [{"token": TOKEN + "x"}, {"token": ""}, {}])
def test_with_both_configured_both_have_to_match(change: dict[str, str]) -> None:
    both = account(webhookToken=TOKEN)
    signed = sign(a_receipt(f"{URL}?token={TOKEN}", {}, BODY_B), "whsec-example")
    url = URL + "".join(f"?{name}={value}" for name, value in change.items())

    assert parse_webhook(signed, both, {}).receipts
    for forged in (replace(signed, url=url), replace(signed, headers={})):
        with pytest.raises(InvalidReceiptSignatureError):
            parse_webhook(forged, both, {})


@pytest.mark.parametrize(
    ("headers", "note"),
    [
        ({}, "(the signature does not match webhookSecret)"),
        ({"x-termii-signature": "☃\udcff"}, "(the signature does not match webhookSecret)"),
        ({"x-termii-signature": SIGNATURE_B}, "(the signature matches webhookSecret)"),
    ],
)
def test_in_log_mode_the_token_decides_and_the_receipt_says_whether_the_signature_matches(
    headers: dict[str, str], note: str
) -> None:
    logging = account(webhookToken=TOKEN, signatureMode="log")

    (receipt,) = parse_webhook(a_receipt(f"{URL}?token={TOKEN}", headers, BODY_B), logging, {}).receipts
    assert receipt.detail == f"DELIVERED | Message delivered to handset {note}"
    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(a_receipt(URL, {"x-termii-signature": SIGNATURE_B}, BODY_B), logging, {})
