"""provider-sendgrid: the request, every row of the error table, every event, and the signature of a batch."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from sluice.model.address import InvalidAddressError
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.sendgrid import SendgridCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    OptOut,
    UnsupportedMessageError,
    WebhookEvent,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_attachment, an_email, an_sms, outbound
from tests.unit.providers.forgeries import Forgery, Genuine, Header

PRIVATE_KEY = "5920f4506269f4fb4fe2349d2d0b7aaa0d260fe4132d89ee934d215bbe89e937"
PUBLIC_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfCsQ5iDNEoEkM1ptUhBHNR+jdNA+2AeGeBnIi4rbmnY5leeaXwhRHVBe5CXotZ+/CLnACNdPpOdy"
    "lM+eAUCRAg=="
)
CREDENTIALS = SendgridCredentials.model_validate({"apiKey": "SG.1", "webhookPublicKey": PUBLIC_KEY})
SAMPLE = Sample({"apiKey": f"SG.{HIDDEN}", "webhookPublicKey": PUBLIC_KEY}, webhook_secret=PRIVATE_KEY)
URL = "https://hooks.example.test/v1/receipts/prv_1"
SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"


def body_of(request: httpx.Request) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(request.content)
    return parsed


# The request


def test_the_whole_mail_is_in_the_request() -> None:
    pdf = an_attachment(b"x", filename="Ü.pdf")
    logo = an_attachment(b"logo", filename="l.png", content_type="image/png", content_id="logo")
    mail = an_email(
        sender="Acme <no-reply@example.com>",
        to=("Ana <ana@example.org>", "ben@bücher.example"),
        cc=("c@example.org",),
        bcc=("d@example.org",),
        reply_to="Help <help@example.com>",
        subject="Grüße 🙂",
        html='<p>hi <img src="cid:logo"></p>',
        attachments=(pdf, logo),
    )

    request = build(outbound(mail, attachments={pdf.sha256: b"x", logo.sha256: b"logo"}), CREDENTIALS)

    envelope = {
        "to": [{"email": "ana@example.org", "name": "Ana"}, {"email": "ben@xn--bcher-kva.example"}],
        "cc": [{"email": "c@example.org"}],
        "bcc": [{"email": "d@example.org"}],
        "custom_args": {"sluice_ref": "att_01HX", "sluice_msg": "msg_01HX"},
    }
    image = {"content": "bG9nbw==", "filename": "l.png", "type": "image/png", "disposition": "inline"}
    assert body_of(request) == {
        "personalizations": [envelope],
        "from": {"email": "no-reply@example.com", "name": "Acme"},
        "reply_to": {"email": "help@example.com", "name": "Help"},
        "subject": "Grüße 🙂",
        "content": [
            {"type": "text/plain", "value": "hi"},
            {"type": "text/html", "value": '<p>hi <img src="cid:logo"></p>'},
        ],
        "attachments": [
            {"content": "eA==", "filename": "Ü.pdf", "type": "application/pdf", "disposition": "attachment"},
            {**image, "content_id": "logo"},
        ],
        "headers": {"X-Sluice-Message-Id": "msg_01HX"},
    }


def test_it_is_posted_with_the_key() -> None:
    request = build(outbound(an_email()), CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", "https://api.sendgrid.com/v3/mail/send")
    assert request.headers["authorization"] == "Bearer SG.1"
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"


def test_what_is_absent_or_empty_is_omitted() -> None:
    body = body_of(build(outbound(an_email(text="", html="<p>hi</p>")), CREDENTIALS))

    assert set(body) == {"personalizations", "from", "subject", "content", "headers"}
    assert set(body["personalizations"][0]) == {"to", "custom_args"}
    assert body["content"] == [{"type": "text/html", "value": "<p>hi</p>"}]


def test_a_repeat_has_the_same_bytes() -> None:
    first, second = (build(outbound(an_email()), CREDENTIALS) for _ in range(2))

    assert first.content == second.content


def test_a_recipient_is_named_once_as_sendgrid_asks() -> None:
    mail = an_email(
        to=("a@example.org", "A@Example.org"), cc=("b@example.org", "a@example.org"), bcc=("B@example.org",)
    )

    (envelope,) = body_of(build(outbound(mail), CREDENTIALS))["personalizations"]

    assert envelope["to"] == [{"email": "a@example.org"}]
    assert envelope["cc"] == [{"email": "b@example.org"}]
    assert "bcc" not in envelope


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('"Doe, Ana; Dr." <a@example.org>', "Doe Ana Dr."),
        ('";," <a@example.org>', None),
        ("Zoë Ünder <a@example.org>", "Zoë Ünder"),
    ],
)
def test_the_name_of_a_recipient_has_no_separator(written: str, name: str | None) -> None:
    body = body_of(build(outbound(an_email(to=(written,))), CREDENTIALS))

    assert body["personalizations"][0]["to"][0].get("name") == name


def test_the_name_of_the_sender_may_have_one() -> None:
    body = body_of(build(outbound(an_email(sender='"Doe, Ana" <a@example.com>')), CREDENTIALS))

    assert body["from"]["name"] == "Doe, Ana"


def test_an_invitation_is_a_version_of_the_text() -> None:
    ics = "BEGIN:VCALENDAR\r\nSUMMARY:Grüße\r\n"
    invitation = an_attachment(ics.encode(), filename="i.ics", content_type='text/calendar; method="REQUEST"')
    plain = an_attachment(b"BEGIN", filename="p.ics", content_type="text/calendar; charset=utf-8")
    mail = an_email(html="<p>hi</p>", attachments=(invitation, plain))

    body = body_of(
        build(outbound(mail, attachments={invitation.sha256: ics.encode(), plain.sha256: b"BEGIN"}), CREDENTIALS)
    )

    assert [part["type"] for part in body["content"]] == ["text/plain", "text/html", "text/calendar; method=REQUEST"]
    assert body["content"][2]["value"] == ics
    assert [(file["filename"], file["type"]) for file in body["attachments"]] == [
        ("p.ics", "text/calendar; charset=utf-8")
    ]


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"region": "eu"}, "https://api.eu.sendgrid.com/v3/mail/send"),
        ({"region": "global"}, "https://api.sendgrid.com/v3/mail/send"),
        ({"region": "eu", "baseUrl": "http://127.0.0.1:9/x/"}, "http://127.0.0.1:9/x/v3/mail/send"),
    ],
)
def test_the_address_is_that_of_the_region_or_a_configured_one(fields: dict[str, str], url: str) -> None:
    credentials = SendgridCredentials.model_validate({"apiKey": "SG.1", **fields})

    assert str(build(outbound(an_email()), credentials).url) == url


def test_a_thousand_recipients_fit() -> None:
    mail = an_email(to=tuple(f"a{number}@example.org" for number in range(1000)))

    assert len(body_of(build(outbound(mail), CREDENTIALS))["personalizations"][0]["to"]) == 1000


EMPTY = an_attachment(b"")
LATIN = an_attachment("ü".encode("latin-1"), content_type="text/calendar; method=REQUEST")
CONTENTS = {EMPTY.sha256: b"", LATIN.sha256: "ü".encode("latin-1")}


@pytest.mark.parametrize(
    "content",
    [
        an_sms(),
        an_email(to=("jörg@example.org",)),
        an_email(bcc=("аня@example.org",)),
        an_email(sender="jörg@example.com"),
        an_email(reply_to="jörg@example.com"),
        an_email(text=None, html=None),
        an_email(text="", html=""),
        an_email(text="half \ud800"),
        an_email(subject="half \udfff"),
        an_email(attachments=(EMPTY,)),
        an_email(attachments=(LATIN,)),
        an_email(attachments=(an_attachment(b"", content_type="no type"),)),
    ],
)
def test_what_it_cannot_carry_is_refused(content: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(outbound(content, attachments=CONTENTS), CREDENTIALS)


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(InvalidAddressError):
        build(outbound(an_email(to=("ana\r\n@example.org",))), CREDENTIALS)


# Credentials


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("apiKey", key) for key in ("", " ", "SG.1\r\nX: y", "SG 1", "SG.é")],
        *[("region", region) for region in ("us", "EU", "", None)],
        *[("baseUrl", url) for url in ("ftp://x", "http://user:pw@x", "http://x/?a=b", "//x")],
        *[("webhookPublicKey", key) for key in ("", "x", "AAAA", PUBLIC_KEY[:-8], "é", PRIVATE_KEY)],
    ],
)
def test_a_wrong_credential_is_refused_by_name(field: str, value: str | None) -> None:
    with pytest.raises(ValidationError) as refused:
        SendgridCredentials.model_validate({"apiKey": "SG.1", field: value})

    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_a_key_of_another_curve_is_refused() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = ec.derive_private_key(7, ec.SECP384R1()).public_key()
    text = base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()

    with pytest.raises(ValidationError, match="P-256"):
        SendgridCredentials.model_validate({"apiKey": "SG.1", "webhookPublicKey": text})


def test_a_public_key_may_be_pasted_with_line_breaks() -> None:
    pasted = f" {PUBLIC_KEY[:40]}\r\n{PUBLIC_KEY[40:]}\n"

    assert (
        SendgridCredentials.model_validate({"apiKey": "S", "webhookPublicKey": pasted}).webhook_public_key == PUBLIC_KEY
    )


# Responses


def test_an_empty_202_with_an_id_is_accepted() -> None:
    outcome = classify(httpx.Response(202, headers={"X-Message-Id": "Ua9z9lSTSaqYBWJe_Xfc-Q"}))

    assert outcome == Accepted("Ua9z9lSTSaqYBWJe_Xfc-Q", receipt_ids=("Ua9z9lSTSaqYBWJe_Xfc-Q",))


def error(status: int, *errors: tuple[str | None, str], headers: dict[str, str] | None = None) -> httpx.Response:
    entries = [{"message": words, "field": field, "help": None} for field, words in errors]
    return httpx.Response(status, json={"errors": entries}, headers=headers)


TO = "personalizations.0.to.0.email"
HOUR = timedelta(hours=1)
INVALID, SENDER, LARGE = (Declined(reason) for reason in (Reason.INVALID_CONTENT, Reason.SENDER, Reason.TOO_LARGE))
ADDRESS = Declined(Reason.INVALID_ADDRESS)
ROWS: list[tuple[httpx.Response, Outcome]] = [
    (error(400, (TO, "Does not contain a valid address.")), ADDRESS),
    (error(400, ("personalizations.0", "Each email address in the personalization block should be unique")), INVALID),
    (error(400, ("personalizations", "You must have at least one personalization.")), INVALID),
    (error(400, ("personalizations", "There is a limit of 1000 total recipients (to + cc + bcc)")), LARGE),
    (error(400, ("content.0.value", "The content value must be a string at least one character in length.")), INVALID),
    (error(400, ("cc", "Invalid type. Expected: array, given: null.")), INVALID),
    (error(400, ("mail_settings", "sandbox mode enable param should be a boolean")), INVALID),
    (error(400, (None, "Bad Request")), INVALID),
    (error(400, ("from", "The from address does not match a verified Sender Identity.")), SENDER),
    (error(400, ("from", "The from object must be provided for every email send.")), SENDER),
    (error(400, ("from.email", "The from email does not contain a valid address.")), SENDER),
    (error(400, ("from.email", "Does not contain a valid address.")), SENDER),
    (error(400, (None, "words without documentation")), INVALID),
    (httpx.Response(400, text="<h1>no</h1>"), INVALID),
    (error(401, (None, "authorization required")), AuthFailed()),
    (error(401, (None, "The provided authorization grant is invalid, expired, or revoked")), AuthFailed()),
    (error(401, (None, "Authenticated user is not authorized to send mail")), AuthFailed()),
    (error(401, (None, "Maximum credits exceeded")), Throttled(retry_after=HOUR)),
    (httpx.Response(401), AuthFailed()),
    (error(403, ("from", "The from address does not match a verified Sender Identity. Mail cannot be sent")), SENDER),
    (error(403, (None, "access forbidden")), AuthFailed()),
    (error(403, (None, "too many bad requests, temporary block")), Throttled(retry_after=HOUR)),
    (httpx.Response(403), AuthFailed()),
    (httpx.Response(404), AuthFailed()),
    (httpx.Response(405), AuthFailed()),
    (httpx.Response(406), AuthFailed()),
    (httpx.Response(413, text="<html>413 Request Entity Too Large</html>"), LARGE),
    (error(413, (None, "payload too large")), LARGE),
    (httpx.Response(415), INVALID),
    (error(429, (None, "too many requests")), Throttled()),
    (httpx.Response(429), Throttled()),
    (httpx.Response(451), AuthFailed()),
    (error(500, (None, "internal server error")), ProviderFault()),
    (error(503, (None, "service unavailable")), ProviderFault()),
    # Not SendGrid's own words, or a status that says nothing about the message.
    *[(httpx.Response(status, text="<h1>x</h1>"), Unknown()) for status in (500, 502, 503, 504, 302, 418)],
    *[(error(status, (None, "x")), Unknown()) for status in (502, 504)],
]


@pytest.mark.parametrize(("response", "outcome"), ROWS)
def test_a_refusal_is_classified(response: httpx.Response, outcome: Outcome) -> None:
    found = classify(response)

    assert not isinstance(found, Accepted)
    assert replace(found, detail="") == outcome
    assert found.detail.startswith(str(response.status_code))


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(202),
        httpx.Response(202, headers={"X-Message-Id": ""}),
        httpx.Response(202, headers={"X-Message-Id": "a b"}),
        httpx.Response(202, headers={"X-Message-Id": "x" * 201}),
        httpx.Response(202, headers={"X-Message-Id": "x"}, text="<html>Welcome</html>"),
        httpx.Response(202, headers={"X-Message-Id": "x"}, json={"errors": [{"message": "no"}]}),
        httpx.Response(200, headers={"X-Message-Id": "x"}),
        httpx.Response(201, headers={"X-Message-Id": "x"}),
        error(200, (None, "Maximum credits exceeded")),
    ],
)
def test_a_2xx_that_is_not_the_documented_one_is_unknown(response: httpx.Response) -> None:
    assert isinstance(classify(response), Unknown)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "30"}, timedelta(seconds=30)),
        ({"x-ratelimit-reset": "1735689665", "date": "Wed, 01 Jan 2025 00:00:05 GMT"}, timedelta(seconds=60)),
        ({"x-ratelimit-reset": "1735689000", "date": "Wed, 01 Jan 2025 00:00:05 GMT"}, timedelta(seconds=1)),
        ({"x-ratelimit-reset": "9999999999", "date": "Wed, 01 Jan 2025 00:00:05 GMT"}, HOUR),
        ({"x-ratelimit-reset": "1735689665"}, None),
        ({"x-ratelimit-reset": "soon", "date": "Wed, 01 Jan 2025 00:00:05 GMT"}, None),
        ({}, None),
    ],
)
def test_a_throttled_response_names_its_wait(headers: dict[str, str], wait: timedelta | None) -> None:
    outcome = classify(error(429, (None, "too many requests"), headers=headers))

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == wait


# Receipts

# From the provider sheet: verified there by SendGrid's own helper.
VECTOR_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEWWYAVpdxgTl8GFV1i7LuiJx9fzH0yLttq6/2huoNY6K8n/SsLn1oi8yPca708u6lbPSc1uIZ4C6K"
    "4KUTN2fzTQ=="
)
VECTOR_BODY = (
    b'[{"email":"ana@example.org","event":"delivered","our_message_id":"m-1001","response":"250 OK","sg_event_id":'
    b'"ZGVsaXZlcmVkLTAtMQ","sg_message_id":"Xq1bNw3vQ5eUuL2mTt8d9A.recvd-abc-1-6700.0","timestamp":1735689600}]\r\n'
)
VECTOR_HEADERS = {
    TIMESTAMP: "1735689605",
    SIGNATURE: "MEYCIQDAnV3N7QAF5WoJbU0mo4e2YKJqWT66oO8r/fFRRiZHyQIhANPM0xkwR365kGFqveOqFSlBbJHM4GMLM2/fCKYiq2vu",
}
SIGNED_AT = datetime.fromtimestamp(1735689605, UTC)


def sign(body: bytes, *, key: str = PRIVATE_KEY, at: int = 1735689605) -> dict[str, str]:
    """Written from the documented recipe, apart from the package's own code."""
    private = ec.derive_private_key(int(key, 16), ec.SECP256R1())
    signature = private.sign(f"{at}".encode() + body, ec.ECDSA(hashes.SHA256()))
    return {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: str(at)}


def sign_afresh(request: WebhookRequest, key: str) -> WebhookRequest:
    headers = sign(request.body, key=key, at=int(request.received_at.timestamp()))
    return replace(request, headers={**request.headers, **headers})


def other_timestamps(signed: WebhookRequest) -> Iterable[Forgery]:
    at = int(signed.headers[TIMESTAMP])
    for value in (None, "", str(at + 1), f"{at}.0", f"0{at}", f" {at}", f"+{at}", "-1", "now", "9" * 400, "١٧٣٥٦٨٩٦٠٥"):
        yield f"the timestamp {value}", Header(TIMESTAMP).write(signed, value)
    swapped = {SIGNATURE: signed.headers[TIMESTAMP], TIMESTAMP: signed.headers[SIGNATURE]}
    yield "the two headers exchanged", replace(signed, headers=swapped)


EVENT: dict[str, Any] = {
    "email": "ana@example.org",
    "timestamp": 1735689602,
    "event": "delivered",
    "sg_event_id": "ZGVsaXZlcmVkLTE",
    "sg_message_id": "Xq1bNw3vQ5eUuL2mTt8d9A.recvd-abc-1-6700.0",
    "sluice_ref": "att_1",
    "sluice_msg": "msg_1",
}


def batch(*events: Any) -> bytes:
    return b"[" + b",\r\n".join(json.dumps(event).encode() for event in events) + b"]\r\n"


GENUINE = [
    Genuine(
        a_receipt(URL, {"content-type": "application/json"}, batch(EVENT), at=SIGNED_AT),
        Header(SIGNATURE),
        sign_afresh,
        key=PRIVATE_KEY,
        other_key="1234567890abcdef",
        lifetime=timedelta(hours=25),
        more=other_timestamps,
    )
]


def parsed(body: bytes, headers: dict[str, str] | None = None) -> list[WebhookEvent]:
    return list(parse_webhook(a_receipt(URL, headers or sign(body), body, at=SIGNED_AT), CREDENTIALS, {}).events)


def receipt(**changes: Any) -> DeliveryReceipt:
    (found,) = parsed(batch({**EVENT, **changes}))
    assert isinstance(found, DeliveryReceipt)
    return found


def test_the_published_vector_is_genuine() -> None:
    credentials = SendgridCredentials.model_validate({"apiKey": "SG.1", "webhookPublicKey": VECTOR_KEY})

    reply = parse_webhook(a_receipt(URL, VECTOR_HEADERS, VECTOR_BODY, at=SIGNED_AT), credentials, {})

    (found,) = reply.receipts
    assert replace(found, payload=b"") == DeliveryReceipt(
        receipt_id="ZGVsaXZlcmVkLTAtMQ",
        type=EventType.DELIVERED,
        provider_message_id="Xq1bNw3vQ5eUuL2mTt8d9A",
        recipient="ana@example.org",
        occurred_at=datetime(2025, 1, 1, tzinfo=UTC),
        detail="250 OK",
    )


def test_the_published_vector_without_its_line_end_is_not() -> None:
    credentials = SendgridCredentials.model_validate({"apiKey": "SG.1", "webhookPublicKey": VECTOR_KEY})

    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(a_receipt(URL, VECTOR_HEADERS, VECTOR_BODY[:-2], at=SIGNED_AT), credentials, {})


def test_without_a_key_nothing_is_believed() -> None:
    credentials = SendgridCredentials.model_validate({"apiKey": "SG.1"})
    body = batch(EVENT)

    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(a_receipt(URL, sign(body), body, at=SIGNED_AT), credentials, {})


def test_a_repeat_of_the_last_day_is_believed() -> None:
    request = a_receipt(URL, sign(batch(EVENT)), batch(EVENT), at=SIGNED_AT + timedelta(hours=24))

    assert len(parse_webhook(request, CREDENTIALS, {}).events) == 1


BLOCKED, FAILED = Reason.BLOCKED, EventType.FAILED
EVENTS: list[tuple[dict[str, Any], EventType, Reason | None]] = [
    ({"event": "processed"}, EventType.SENT, None),
    ({"event": "deferred", "response": "421 4.7.0 try later", "attempt": "2"}, EventType.DEFERRED, None),
    ({"event": "delivered", "response": "250 OK", "tls": 1}, EventType.DELIVERED, None),
    (
        {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"},
        EventType.BOUNCED,
        Reason.UNKNOWN_RECIPIENT,
    ),
    ({"event": "bounce", "reason": "550 no such user"}, EventType.BOUNCED, Reason.OTHER),
    ({"event": "bounce", "status": "5.7.26"}, EventType.BOUNCED, Reason.POLICY),
    ({"event": "bounce", "type": "blocked", "reason": "452 4.2.2 full"}, EventType.SOFT_BOUNCE, Reason.FULL),
    ({"event": "bounce", "type": "blocked", "status": ""}, EventType.SOFT_BOUNCE, Reason.BLOCKED),
    ({"event": "bounce", "reason": "550 Message rejected as spam"}, EventType.BOUNCED, Reason.SPAM),
    ({"event": "dropped", "reason": "Bounced Address"}, FAILED, BLOCKED),
    ({"event": "dropped", "reason": "Spam Reporting Address"}, FAILED, Reason.COMPLAINT),
    ({"event": "dropped", "reason": "Unsubscribed Address"}, FAILED, Reason.UNSUBSCRIBED),
    ({"event": "dropped", "reason": "Invalid"}, FAILED, Reason.INVALID_ADDRESS),
    ({"event": "dropped", "reason": "Spam Content"}, FAILED, Reason.SPAM),
    ({"event": "dropped", "reason": "Invalid SMTPAPI header"}, FAILED, Reason.INVALID_CONTENT),
    ({"event": "dropped", "reason": "Recipient List over Package Quota"}, FAILED, Reason.QUOTA),
    ({"event": "dropped"}, FAILED, Reason.OTHER),
    ({"event": "spamreport"}, EventType.COMPLAINED, Reason.COMPLAINT),
    ({"event": "open", "useragent": "x", "ip": "198.51.100.7"}, EventType.OPENED, None),
    ({"event": "click", "url": "https://example.com/a"}, EventType.CLICKED, None),
]


@pytest.mark.parametrize(("fields", "type_", "reason"), EVENTS)
def test_every_event_has_its_type(fields: dict[str, Any], type_: EventType, reason: Reason | None) -> None:
    found = receipt(**fields)

    assert (found.type, found.reason) == (type_, reason)
    assert (found.reference, found.provider_message_id) == ("att_1", "Xq1bNw3vQ5eUuL2mTt8d9A")
    assert json.loads(found.payload) == {**EVENT, **fields}


def test_a_batch_is_one_receipt_for_each_event_that_says_something() -> None:
    other = {**EVENT, "event": "open", "sg_event_id": "2", "sluice_ref": "att_2", "email": "ben@example.org"}
    silent = [{"event": "account_status_change", "type": "compliance_suspend"}, {"event": "new"}, {}, None, 7, [EVENT]]

    found = parsed(batch(EVENT, *silent, other))

    assert [one.reference for one in found if isinstance(one, DeliveryReceipt)] == ["att_1", "att_2"]


@pytest.mark.parametrize("name", ["unsubscribe", "group_unsubscribe"])
def test_an_unsubscription_is_an_opt_out(name: str) -> None:
    assert parsed(batch({**EVENT, "event": name})) == [
        OptOut("ana@example.org", occurred_at=datetime.fromtimestamp(1735689602, UTC))
    ]


def test_a_late_bounce_without_ids_is_no_error() -> None:
    late = {"event": "bounce", "email": "ana@example.org", "timestamp": 1735689602.5, "reason": "550", "ip": None}

    (found,) = parsed(batch({**late, "sg_message_id": ""}))

    assert isinstance(found, DeliveryReceipt)
    assert (found.reference, found.provider_message_id) == (None, None)
    assert found.receipt_id == "bounce::ana@example.org:1735689602.5"


@pytest.mark.parametrize(
    ("sg_message_id", "message_id"),
    [
        ("Xq1b.recvd-abc-1-6700.0", "Xq1b"),
        ("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "14c5d75ce93.dfd.64b469"),
        ("Xq1b.filterdrecv-p3las1-abc-19-5F0-14.0", "Xq1b"),
        ("Xq1b.f0-1-2.0", "Xq1b"),
        ("Xq1b", "Xq1b"),
        (7, None),
        (None, None),
    ],
)
def test_the_message_id_is_that_of_the_response(sg_message_id: Any, message_id: str | None) -> None:
    assert receipt(sg_message_id=sg_message_id).provider_message_id == message_id


@pytest.mark.parametrize("value", ["1735689602", None, [], 1e300, -1e300, 10**18])
def test_a_time_that_cannot_be_read_is_omitted(value: Any) -> None:
    assert receipt(timestamp=value).occurred_at is None


@pytest.mark.parametrize("body", [b"{}", b"null", b"[", b"", b"[[]]", json.dumps(EVENT).encode(), b"[" * 5000])
def test_a_genuine_body_that_is_no_batch_says_nothing(body: bytes) -> None:
    assert parsed(body) == []


def test_no_address_is_in_the_detail() -> None:
    assert receipt(event="bounce", reason="550 <ana@example.org> unknown").detail == "550 <<address>> unknown"
