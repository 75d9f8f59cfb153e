"""provider-twilio: the request, every documented code, the signature vectors and the forgery matrix."""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha1, sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

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
from sluice.providers.adapters.twilio_sms import TwilioCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    UnsupportedMessageError,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_email, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Header

SAMPLE = Sample({"accountSid": "AC" + "0" * 32, "authToken": HIDDEN, "from": "ACME"})
SID = "AC" + "0" * 31 + "1"
TOKEN = "12345"
FIELDS: dict[str, Any] = {"accountSid": SID, "authToken": TOKEN, "from": "+15005550006"}
CREDENTIALS = TwilioCredentials.model_validate(FIELDS)
CALLBACK = "https://hooks.example.test/sms/twilio/acct1"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def form_of(request: httpx.Request) -> dict[str, str]:
    return dict(parse_qsl(request.content.decode(), keep_blank_values=True, strict_parsing=True))


# Credentials and the request


def test_the_text_is_in_the_form() -> None:
    message = outbound(an_sms(text="Grüße & +mehr"), callback_url=CALLBACK, reference="msg-42")

    request = build(message, CREDENTIALS)

    assert request.method == "POST"
    assert str(request.url) == f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Messages.json"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert b"To=%2B15005550100" in request.content
    assert form_of(request) == {
        "To": "+15005550100",
        "From": "+15005550006",
        "Body": "Grüße & +mehr",
        "StatusCallback": f"{CALLBACK}?ref=msg-42",
    }


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        ("https://h.test/r", "https://h.test/r?ref=att_01HX"),
        ("https://h.test/r?a=b%20c", "https://h.test/r?a=b%20c&ref=att_01HX"),
        ("https://h.test:8443/r/?#f", "https://h.test:8443/r/?ref=att_01HX"),
    ],
)
def test_our_reference_joins_the_callbacks_query(callback: str, expected: str) -> None:
    assert form_of(build(outbound(an_sms(), callback_url=callback), CREDENTIALS))["StatusCallback"] == expected


def test_without_a_public_address_no_callback_is_asked_for() -> None:
    assert "StatusCallback" not in form_of(build(outbound(an_sms()), CREDENTIALS))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"from": None}, {"From": "+1999"}),
        ({"from": "ACME"}, {"From": "ACME"}),
        ({"from": None, "messagingServiceSid": "MG" + "a" * 32}, {"MessagingServiceSid": "MG" + "a" * 32}),
        (
            {"from": "ACME", "messagingServiceSid": "MG" + "a" * 32},
            {"MessagingServiceSid": "MG" + "a" * 32, "From": "ACME"},
        ),
    ],
)
def test_the_sender_is_the_accounts_else_the_messages(fields: dict[str, Any], expected: dict[str, str]) -> None:
    credentials = TwilioCredentials.model_validate({**FIELDS, **fields})

    form = form_of(build(outbound(an_sms(sender="+1999")), credentials))

    assert {name: form[name] for name in form if name in ("From", "MessagingServiceSid")} == expected


def test_an_api_key_logs_in_instead_of_the_account() -> None:
    key = {"apiKeySid": "SK" + "b" * 32, "apiKeySecret": "s3cret"}
    credentials = TwilioCredentials.model_validate({**FIELDS, **key})

    request = build(outbound(an_sms()), credentials)

    assert httpx.BasicAuth("SK" + "b" * 32, "s3cret")._auth_header == request.headers["authorization"]
    assert SID in str(request.url)


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, "https://api.twilio.com"),
        ({"region": "ie1", "edge": "dublin"}, "https://api.dublin.ie1.twilio.com"),
        ({"edge": "dublin"}, "https://api.dublin.us1.twilio.com"),
        ({"baseUrl": "http://127.0.0.1:8080/"}, "http://127.0.0.1:8080"),
    ],
)
def test_region_and_edge_choose_the_host(fields: dict[str, Any], host: str) -> None:
    assert TwilioCredentials.model_validate({**FIELDS, **fields}).address == host


@pytest.mark.parametrize(
    "fields",
    [
        {"accountSid": "AC1"},
        {"authToken": None},
        {"authToken": None, "apiKeySid": "SK" + "b" * 32},
        {"apiKeySid": "XX"},
        {"messagingServiceSid": "MG1"},
        {"region": "evil.example/"},
        {"surprise": 1},
    ],
)
def test_credentials_that_cannot_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TwilioCredentials.model_validate({**FIELDS, **fields})


@pytest.mark.parametrize("content", [an_email(), an_sms(text="\ud800"), an_sms(sender="")])
def test_what_it_cannot_carry_is_refused(content: Any) -> None:
    credentials = TwilioCredentials.model_validate({**FIELDS, "from": None})

    with pytest.raises(UnsupportedMessageError):
        build(outbound(content), credentials)


# Answers

SYNCHRONOUS: dict[Refusal, list[int]] = {
    AuthFailed(): [
        *[20003, 20005, 10001, 21472, 20006, 20403, 20008, 20404, 21470, 21471, 21609],
        *[63001, 63002, 63007, 63008, 63020, 63022, 63051, 63015, 63035],
    ],
    RecipientRejected(Reason.INVALID_ADDRESS): [21211, 21217, 21401, 21421],
    RecipientRejected(Reason.UNREACHABLE): [21214],
    RecipientRejected(Reason.UNSUBSCRIBED): [21610],
    RecipientRejected(Reason.UNKNOWN_RECIPIENT): [21614, 21635],
    RecipientRejected(Reason.OTHER): [63003, 63024, 63031],
    RecipientRejected(Reason.BLOCKED): [63014, 63032, 63033],
    Declined(Reason.INVALID_CONTENT): [
        *[20001, 20004, 20422, 21602, 21604, 21618, 21620, 21624, 90007, 30045, 21653, 21910],
        *[63005, 63006, 63013, 63019, 63021, 63026, 63027, 63028, 63029, 63030, 63034, 63037, 63040, 63041, 63042],
    ],
    Declined(Reason.TOO_LARGE): [21605, 21617],
    Declined(Reason.UNSUPPORTED): [21408, 21612],
    Declined(Reason.POLICY): [63016],
    Declined(Reason.SENDER): [21212, 21213, 21603, 21606, 21616, 21601, 21657, 21659, 21660, 21708, 21709],
    Declined(Reason.SENDER, scope=Scope.ACCOUNT): [21701, 21702, 21703, 21704, 21705, 21711, 21712],
    Declined(Reason.REPUTATION, scope=Scope.ACCOUNT): [10002, 21607, 21608, 21219],
    Throttled(): [20429, 63017, 63018, 63038, 63039],
    Throttled(scope=Scope.SENDER): [21611],
    Throttled(scope=Scope.PAIR): [14107],
    ProviderFault(): [20410, 20503, 21619, 21730, 63009, 63010, 63011, 63012, 63023, 63036],
    Unknown(): [20409, 20500],
}
CODES = [(code, outcome) for outcome, codes in SYNCHRONOUS.items() for code in codes]


@pytest.mark.parametrize(("code", "outcome"), CODES)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_the_code_decides_whatever_the_status(code: int, outcome: Refusal, status: int) -> None:
    body = {"code": code, "message": "words", "more_info": "https://x", "status": status}

    found = classify(httpx.Response(status, json=body))

    assert found == replace(outcome, detail=f"{status} {code} words")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, Declined), (422, Declined), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed)],
        *[(409, Unknown), (429, Throttled), (500, Unknown), (502, Unknown), (503, Unknown), (504, Unknown)],
        *[(302, Unknown), (418, Unknown)],
    ],
)
@pytest.mark.parametrize("body", ["", "<h1>words</h1>", "{}", '{"code":99999}', '{"code":"x"}', '{"code":null}', "[1]"])
def test_without_a_known_code_the_status_decides(status: int, outcome: type[Outcome], body: str) -> None:
    assert type(classify(httpx.Response(status, text=body))) is outcome


def test_the_newer_form_of_an_error_is_read_too() -> None:
    body = {"type": "https://x", "title": "Opted out", "status": 400, "code": "21610", "detail": "said STOP"}

    assert classify(httpx.Response(400, json=body)) == RecipientRejected(Reason.UNSUBSCRIBED, "400 21610 said STOP")


def created(**changes: Any) -> dict[str, Any]:
    return {"sid": "SM" + "1" * 32, "status": "queued", "error_code": None, "num_segments": "1"} | changes


@pytest.mark.parametrize("status", ["queued", "accepted", "scheduled"])
def test_a_201_with_a_sid_is_accepted(status: str) -> None:
    assert classify(httpx.Response(201, json=created(status=status))) == Accepted("SM" + "1" * 32)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (30005, RecipientRejected),
        (21610, RecipientRejected),
        (30007, Declined),
        (30002, AuthFailed),
        (30034, Declined),
        (30022, Throttled),
        (30001, ProviderFault),
        (30410, Unknown),
        (None, ProviderFault),
    ],
)
def test_a_message_that_was_born_failed_is_no_acceptance(code: int | None, outcome: type[Outcome]) -> None:
    answer = httpx.Response(201, json=created(status="failed", error_code=code))

    assert type(classify(answer)) is outcome


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"{}", b"[]", b'{"sid":"SM1"}', b'{"sid":7}', b'{"sid":"XX' + b"1" * 32 + b'"}'],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_2xx_that_is_not_the_documented_one_is_unknown(status: int, content: bytes) -> None:
    assert isinstance(classify(httpx.Response(status, content=content)), Unknown)


def test_a_2xx_with_an_error_in_it_is_no_refusal() -> None:
    assert isinstance(classify(httpx.Response(200, json={"code": 20003, "message": "no"})), Unknown)


def test_a_retry_after_is_honoured() -> None:
    answer = httpx.Response(429, headers={"Retry-After": "7"}, json={"code": 20429})

    outcome = classify(answer)

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == timedelta(seconds=7)


# Receipts

P = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
REPEATED = [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")]
UNDELIVERED = {
    "AccountSid": SID,
    "ApiVersion": "2010-04-01",
    "From": "+15005550006",
    "MessageSid": "SM" + "0" * 31 + "1",
    "SmsSid": "SM" + "0" * 31 + "1",
    "MessageStatus": "undelivered",
    "SmsStatus": "undelivered",
    "ErrorCode": "30003",
    "To": "+15005550100",
}
OURS = f"{CALLBACK}?ref=msg-42"
VECTORS: list[tuple[str, Any, str]] = [
    ("https://mycompany.com/myapp.php?foo=1&bar=2", P, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    ("https://mycompany.com:443/myapp.php?foo=1&bar=2", P, "kvajT1Ptam85bY51eRf/AJRuM3w="),
    ("http://mycompany.com:80/myapp.php?foo=1&bar=2", P, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
    ("https://mycompany.com/myapp.php?foo=1&bar=2", REPEATED, "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
    (OURS, UNDELIVERED, "rewKeDCWVPN7FV7Dp7sLXICvVCk="),
]
JSON_URL = (
    "https://mycompany.com/myapp.php?foo=1&bar=2&bodySHA256="
    "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
)
JSON_BODY = b'{"property": "value", "boolean": true}'


def read(url: str, signature: str | None, body: bytes, **headers: str) -> list[DeliveryReceipt]:
    signed = {"x-twilio-signature": signature} if signature is not None else {}
    return parse_webhook(a_receipt(url, {**FORM, **headers, **signed}, body), CREDENTIALS, {}).receipts


def signature_of(url: str, fields: dict[str, str], token: str = TOKEN) -> str:
    """Written from the sheet's recipe, apart from the package's own code."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), sha1).digest()).decode()


def said(status: str, **fields: str) -> list[DeliveryReceipt]:
    form = {"MessageSid": "SM1", "MessageStatus": status, **fields}
    return read(OURS, signature_of(OURS, form), urlencode(form).encode())


@pytest.mark.parametrize(("url", "fields", "signature"), VECTORS)
def test_the_vectors_of_the_fact_sheet_are_genuine(url: str, fields: Any, signature: str) -> None:
    assert read(url, signature, urlencode(fields).encode()) is not None  # it does not raise


def test_a_json_body_is_signed_by_its_hash_in_the_url() -> None:
    headers = {"content-type": "application/json"}

    assert read(JSON_URL, "a9nBmqA0ju/hNViExpshrM61xv4=", JSON_BODY, **headers) == []


@pytest.mark.parametrize("body", [JSON_BODY + b" ", b"", JSON_BODY.replace(b"true", b"null")])
def test_another_json_body_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        read(JSON_URL, "a9nBmqA0ju/hNViExpshrM61xv4=", body, **{"content-type": "application/json"})


def test_a_json_body_with_a_fresh_hash_is_refused() -> None:
    url = f"https://mycompany.com/myapp.php?bodySHA256={sha256(b'{}').hexdigest()}"

    with pytest.raises(InvalidReceiptSignatureError):
        read(url, "a9nBmqA0ju/hNViExpshrM61xv4=", b"{}", **{"content-type": "application/json"})


@pytest.mark.parametrize(
    ("signed", "arrived"),
    [
        ("https://h.test/r?ref=1", "https://h.test:443/r?ref=1"),
        ("https://h.test:443/r?ref=1", "https://h.test/r?ref=1"),
        ("http://h.test:80/r?ref=1", "http://h.test/r?ref=1"),
        ("https://h.test/r?ref=1", "https://h.test:8443/r?ref=1"),
    ],
)
def test_the_port_may_be_in_the_signed_url_or_not(signed: str, arrived: str) -> None:
    form = {"MessageSid": "SM1", "MessageStatus": "sent"}

    assert len(read(arrived, signature_of(signed, form), urlencode(form).encode())) == 1


def test_a_get_is_signed_over_its_url_alone() -> None:
    request = a_receipt(OURS, {"x-twilio-signature": signature_of(OURS, {})}, b"", method="GET")

    assert parse_webhook(request, CREDENTIALS, {}).events == []


def test_a_signed_receipt_is_understood() -> None:
    (receipt,) = read(OURS, "rewKeDCWVPN7FV7Dp7sLXICvVCk=", urlencode(UNDELIVERED).encode())

    assert receipt == DeliveryReceipt(
        receipt_id="SM" + "0" * 31 + "1:undelivered",
        type=EventType.SOFT_BOUNCE,
        reason=Reason.UNREACHABLE,
        reference="msg-42",
        provider_message_id="SM" + "0" * 31 + "1",
        recipient="+15005550100",
        detail="undelivered 30003",
    )


def sign_form(request: WebhookRequest, key: str) -> WebhookRequest:
    signature = signature_of(request.url, dict(parse_qsl(request.body.decode())), key)
    return replace(request, headers={**request.headers, "x-twilio-signature": signature})


GENUINE = [
    Genuine(
        a_receipt(OURS, FORM, urlencode(UNDELIVERED).encode()),
        Header("x-twilio-signature"),
        sign_form,
        key=TOKEN,
        other_key="54321",
        secret="authToken",
        covers_url=True,
    )
]
GOOD = "rewKeDCWVPN7FV7Dp7sLXICvVCk="
BODY = urlencode(UNDELIVERED).encode()
# Beside the forgery matrix.
FORGERIES: list[tuple[str, str, str | None, bytes]] = [
    ("without padding", OURS, GOOD.rstrip("="), BODY),
    ("hex", OURS, base64.b64decode(GOOD).hex(), BODY),
    ("SHA-256 instead", OURS, base64.b64encode(hmac.new(b"12345", OURS.encode(), sha256).digest()).decode(), BODY),
    ("a field less", OURS, GOOD, BODY.replace(b"&ErrorCode=30003", b"")),
    ("a field moved into its neighbour", OURS, GOOD, BODY.replace(b"&ErrorCode=30003", b"ErrorCode30003")),
    ("a blank trimmed", OURS, signature_of(OURS, {"A": " b "}), b"A=b"),
    ("another value of a repeated field", OURS, GOOD, BODY + b"&MessageStatus=delivered"),
    ("not UTF-8", OURS, GOOD, b"A=%FF"),
]


@pytest.mark.parametrize(
    ("url", "signature", "body"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES]
)
def test_a_forgery_is_refused(url: str, signature: str | None, body: bytes) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        read(url, signature, body)


def test_a_form_that_claims_to_be_json_is_refused() -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        read(OURS, GOOD, BODY, **{"content-type": "application/json"})


def test_without_the_auth_token_nothing_is_believed() -> None:
    key = {"apiKeySid": "SK" + "b" * 32, "apiKeySecret": TOKEN}
    credentials = TwilioCredentials.model_validate({"accountSid": SID, **key})

    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(a_receipt(OURS, {**FORM, "x-twilio-signature": GOOD}, BODY), credentials, {})


UNDELIVERED_CODES: dict[EventType, list[str]] = {
    EventType.SOFT_BOUNCE: ["30003", "30017", "30036", "30410"],
    EventType.BOUNCED: ["30004", "30005", "30006", "30019", "21610"],
    EventType.FAILED: [
        *["30001", "30002", "30007", "30008", "30009", "30010", "30011", "30012", "30013", "30014", "30015"],
        *["30016", "30018", "30024", "30032", "30034", "30035", "30020", "30021", "30022", "30023", "30027"],
        *["30033", "30450", "99999", ""],
    ],
}


@pytest.mark.parametrize(
    ("code", "kind"), [(code, kind) for kind, codes in UNDELIVERED_CODES.items() for code in codes]
)
def test_an_undelivered_message_ends_as_its_code_says(code: str, kind: EventType) -> None:
    (receipt,) = said("undelivered", ErrorCode=code)

    assert receipt.type is kind


@pytest.mark.parametrize(
    ("status", "fields", "kinds"),
    [
        ("accepted", {}, []),
        ("scheduled", {}, []),
        ("queued", {}, []),
        ("sending", {}, []),
        ("receiving", {}, []),
        ("received", {}, []),
        ("brand-new", {}, []),
        ("sent", {}, [EventType.SENT]),
        ("delivered", {}, [EventType.DELIVERED]),
        ("read", {}, [EventType.DELIVERED, EventType.READ]),
        ("partially_delivered", {}, [EventType.SENT]),
        ("failed", {"ErrorCode": "30008"}, [EventType.FAILED]),
        ("failed", {"ErrorCode": "21610"}, [EventType.BOUNCED]),
        ("failed", {"ErrorCode": "30410"}, [EventType.SOFT_BOUNCE]),  # perhaps delivered
        ("canceled", {}, [EventType.FAILED]),
    ],
)
def test_a_status_says_what_became_of_the_message(status: str, fields: dict[str, str], kinds: list[EventType]) -> None:
    assert [receipt.type for receipt in said(status, **fields)] == kinds


def test_repeats_are_equal_and_later_states_are_not() -> None:
    assert said("sent")[0].receipt_id == said("sent")[0].receipt_id != said("delivered")[0].receipt_id
    assert len({receipt.receipt_id for receipt in said("read")}) == 2
    assert said("read")[0].receipt_id == said("delivered")[0].receipt_id


@pytest.mark.parametrize(
    ("date", "moment"),
    [("2605041203", datetime(2026, 5, 4, 12, 3, tzinfo=UTC)), ("", None), ("odd", None), ("9999999999", None)],
)
def test_the_carriers_own_time_is_kept(date: str, moment: datetime | None) -> None:
    (receipt,) = said("delivered", RawDlrDoneDate=date)

    assert receipt.occurred_at == moment
