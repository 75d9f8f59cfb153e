"""provider-mailgun: the form, every row of the error table, every event, and the signature inside the body."""

from __future__ import annotations

import base64
import hmac
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from hashlib import sha256
from typing import Any

import httpx
import pytest
from multipart import MultipartParser
from pydantic import ValidationError

from sluice.model.address import InvalidAddressError
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, Scope, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.mailgun import MailgunCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    OptOut,
    UnsupportedMessageError,
    WebhookReply,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_attachment, an_email, an_sms, outbound
from tests.unit.providers.forgeries import Forgery, Genuine

KEY = "whk-test-0123456789abcdef"
DOMAIN = "mg.example.com"
CREDENTIALS = MailgunCredentials.model_validate({"apiKey": "key-1", "domain": DOMAIN, "webhookSigningKey": KEY})
SAMPLE = Sample({"apiKey": HIDDEN, "domain": DOMAIN, "webhookSigningKey": HIDDEN + "w"}, webhook_secret=HIDDEN + "w")
URL = "https://hooks.example.test/v1/receipts/prv_1"


def form_of(request: httpx.Request) -> list[Any]:
    boundary = request.headers["content-type"].partition("boundary=")[2]
    return list(MultipartParser(io.BytesIO(request.content), boundary, strict=True, part_limit=4000))


def texts_of(request: httpx.Request) -> list[tuple[str, str]]:
    return [(part.name, part.value) for part in form_of(request) if not part.filename]


def files_of(request: httpx.Request) -> list[tuple[str, str, str, bytes]]:
    return [
        (part.name, part.filename, part.headers["content-type"], part.raw) for part in form_of(request) if part.filename
    ]


# The request


def test_the_whole_mail_is_in_the_form() -> None:
    pdf = an_attachment(b"\x00\r\n\xff", filename="Ü.pdf")
    logo = an_attachment(b"logo", filename="l.png", content_type="image/png", content_id="logo@1")
    mail = an_email(
        sender="Acme <no-reply@example.com>",
        to=('"Doe, Ana" <ana@example.org>', "ben@bücher.example"),
        cc=("Zoë <c@example.org>",),
        bcc=("d@example.org",),
        reply_to="Help <help@example.com>",
        subject="Grüße 🙂",
        html='<p>hi <img src="cid:logo@1"></p>',
        attachments=(pdf, logo),
    )

    request = build(outbound(mail, attachments={pdf.sha256: b"\x00\r\n\xff", logo.sha256: b"logo"}), CREDENTIALS)

    assert texts_of(request) == [
        ("v:ref", "att_01HX"),
        ("v:msg", "msg_01HX"),
        ("from", "Acme <no-reply@example.com>"),
        ("to", '"Doe, Ana" <ana@example.org>'),
        ("to", "ben@xn--bcher-kva.example"),
        ("cc", "=?utf-8?b?Wm/Dqw==?= <c@example.org>"),
        ("bcc", "d@example.org"),
        ("h:Reply-To", "Help <help@example.com>"),
        ("subject", "Grüße 🙂"),
        ("text", "hi"),
        ("html", '<p>hi <img src="cid:logo@1"></p>'),
        ("h:X-Sluice-Message-Id", "msg_01HX"),
    ]
    assert files_of(request) == [
        ("attachment", "Ü.pdf", "application/pdf", b"\x00\r\n\xff"),
        ("inline", "logo@1", "image/png", b"logo"),
    ]


def test_it_is_posted_with_the_key_to_the_domain() -> None:
    request = build(outbound(an_email()), CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", "https://api.mailgun.net/v3/mg.example.com/messages")
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"api:key-1").decode()
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")


def test_what_is_absent_or_empty_is_omitted() -> None:
    names = [name for name, _ in texts_of(build(outbound(an_email(text="", html="<p>hi</p>")), CREDENTIALS))]

    assert names == ["v:ref", "v:msg", "from", "to", "subject", "html", "h:X-Sluice-Message-Id"]


def test_a_repeat_has_the_same_bytes() -> None:
    first, second = (build(outbound(an_email()), CREDENTIALS) for _ in range(2))

    assert first.content == second.content
    assert first.headers == second.headers


def test_a_content_id_without_html_is_of_no_use() -> None:
    logo = an_attachment(b"logo", filename="l.png", content_type="image/png", content_id="logo")

    request = build(outbound(an_email(attachments=(logo,)), attachments={logo.sha256: b"logo"}), CREDENTIALS)

    assert [(field, name) for field, name, _, _ in files_of(request)] == [("attachment", "l.png")]


INVITATION = {"filename": "i.ics", "content_type": "text/calendar; method=REQUEST"}


@pytest.mark.parametrize("fields", [INVITATION, {"filename": '"q".pdf'}, {"filename": "a\\b.pdf"}])
def test_what_a_form_cannot_carry_is_sent_as_mime(fields: dict[str, str]) -> None:
    file = an_attachment(b"BEGIN", **fields)
    mail = an_email(
        to=("Ana <ana@example.org>",), cc=("c@example.org",), bcc=("ben@bücher.example",), attachments=(file,)
    )

    request = build(outbound(mail, attachments={file.sha256: b"BEGIN"}), CREDENTIALS)

    assert request.url.path == "/v3/mg.example.com/messages.mime"
    assert texts_of(request) == [
        ("v:ref", "att_01HX"),
        ("v:msg", "msg_01HX"),
        ("to", "ana@example.org"),
        ("to", "c@example.org"),
        ("to", "ben@xn--bcher-kva.example"),
    ]
    ((field, name, kind, content),) = files_of(request)
    read = message_from_bytes(content, policy=policy.default)
    assert (field, name, kind) == ("message", "mail.eml", "message/rfc822")
    assert (read["To"], read["Cc"], read["Bcc"]) == ("Ana <ana@example.org>", "c@example.org", None)
    assert fields["filename"] in [part.get_filename() for part in read.walk()]


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"region": "eu"}, "https://api.eu.mailgun.net/v3/mg.example.com/messages"),
        ({"region": "us"}, "https://api.mailgun.net/v3/mg.example.com/messages"),
        ({"region": "eu", "baseUrl": "http://127.0.0.1:9/x/"}, "http://127.0.0.1:9/x/v3/mg.example.com/messages"),
    ],
)
def test_the_address_is_that_of_the_region_or_a_configured_one(fields: dict[str, str], url: str) -> None:
    credentials = MailgunCredentials.model_validate({"apiKey": "key-1", "domain": DOMAIN, **fields})

    assert str(build(outbound(an_email()), credentials).url) == url


def test_a_thousand_recipients_fit() -> None:
    mail = an_email(to=tuple(f"a{number}@example.org" for number in range(1000)))

    assert [name for name, _ in texts_of(build(outbound(mail), CREDENTIALS))].count("to") == 1000


@pytest.mark.parametrize(
    "content",
    [
        an_sms(),
        an_email(to=("jörg@example.org",)),
        an_email(bcc=("аня@example.org",)),
        an_email(sender="jörg@example.com"),
        an_email(reply_to="jörg@example.com"),
        an_email(sender="jörg@example.com", attachments=(an_attachment(b"", **INVITATION),)),
        an_email(reply_to="jörg@example.com", attachments=(an_attachment(b"", **INVITATION),)),
        an_email(text=None, html=None),
        an_email(text="", html=""),
        an_email(text="half \ud800"),
        an_email(subject="half \udfff"),
        an_email(attachments=(an_attachment(b"", filename="half \ud800"),)),
        an_email(attachments=(an_attachment(b"", content_type="no type"),)),
    ],
)
def test_what_it_cannot_carry_is_refused(content: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(outbound(content, attachments={sha256(b"").hexdigest(): b""}), CREDENTIALS)


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(InvalidAddressError):
        build(outbound(an_email(to=("ana\r\n@example.org",))), CREDENTIALS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("apiKey", key) for key in ("", " ", "key 1", "kéy", "key\r\nX: y")],
        *[("domain", name) for name in ("", "example", "a/b.com", "a%2fb.com", "a..com", "mg.example.com/", "é.com")],
        *[("domain", name) for name in ("a.com?x", "a.com#x", "a.com\n", " a.com", "../a.com", "a.com:1", "u@a.com")],
        *[("region", region) for region in ("global", "US", "", None)],
        *[("baseUrl", url) for url in ("ftp://x", "http://user:pw@x", "http://x/?a=b", "//x")],
        *[("webhookSigningKey", key) for key in ("", " ")],
    ],
)
def test_a_wrong_credential_is_refused_by_name(field: str, value: str | None) -> None:
    with pytest.raises(ValidationError) as refused:
        MailgunCredentials.model_validate({"apiKey": "key-1", "domain": DOMAIN, field: value})

    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


# Responses

ID = "20250101000000.abc123@mg.example.com"


def test_a_200_that_queues_the_mail_is_accepted() -> None:
    response = httpx.Response(200, json={"id": f"<{ID}>", "message": "Queued. Thank you."})

    assert classify(response) == Accepted(ID, receipt_ids=(ID,))


def error(status: int, words: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"message": words}, headers=headers)


INVALID, SENDER, LARGE = (Declined(reason) for reason in (Reason.INVALID_CONTENT, Reason.SENDER, Reason.TOO_LARGE))
ADDRESS = Declined(Reason.INVALID_ADDRESS)
NOT_ALLOWED = "Domain mg.example.com is not allowed to send: "
ROWS: list[tuple[httpx.Response, Outcome]] = [
    *[(error(400, f"{name} parameter is not a valid address."), ADDRESS) for name in ("to", "'to'", "cc", "bcc")],
    *[(error(400, f"{name} parameter is not a valid address."), SENDER) for name in ("from", "'from'")],
    (error(400, "to parameter is missing"), INVALID),
    (error(400, "from parameter is missing"), INVALID),
    (error(400, "Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified"), INVALID),
    (error(400, "Only one parameters 'html' or 'template' must be specified"), INVALID),
    (error(400, "'recipient-variables' parameter is not a valid JSON"), INVALID),
    (error(400, "Header name must be pure ASCII"), INVALID),
    (error(400, "o:deliverytime is not an RFC-2822 compliant date"), INVALID),
    (error(400, "Too many recipients, max is 1000"), LARGE),
    (error(400, "'o:', 'v:', 'h:' and 't:' parameters are limited to 16 kB total"), LARGE),
    (error(400, "Expecting 'multipart/form-data' content type"), INVALID),
    (error(400, "malformed multipart/form-data"), INVALID),
    (error(400, NOT_ALLOWED + "Sandbox subdomains are for test purposes only."), AuthFailed()),
    (error(400, NOT_ALLOWED + "The domain is unverified"), AuthFailed()),
    (error(400, "x is not a valid secondary dkim domain name"), AuthFailed()),
    (error(400, "words without documentation"), INVALID),
    (httpx.Response(400, text="<h1>no</h1>"), INVALID),
    (httpx.Response(401, text="Forbidden"), AuthFailed()),
    (httpx.Response(401, json="Forbidden"), AuthFailed()),
    (error(402, "Request failed"), ProviderFault()),
    (httpx.Response(402), Unknown()),
    (error(403, "not allowed to send large batches yet"), Declined(Reason.REPUTATION, scope=Scope.ACCOUNT)),
    (error(403, "IP 192.0.2.1 can't be used to send the message"), AuthFailed()),
    (error(404, "Domain not found: mg.example.com"), AuthFailed()),
    (error(413, "request size exceeds 52.4MiB limit"), LARGE),
    (httpx.Response(413, text="<html>"), LARGE),
    (error(429, NOT_ALLOWED + "request limit exceeded"), Throttled()),
    (httpx.Response(429), Throttled()),
    (error(500, "Internal Server Error"), ProviderFault()),
    (error(503, "Internal Server Error"), ProviderFault()),
    # Not Mailgun's own words, or a status that says nothing about the message.
    *[(httpx.Response(status, text="<h1>x</h1>"), Unknown()) for status in (500, 502, 503, 504, 302, 418)],
    *[(error(status, "x"), Unknown()) for status in (502, 504)],
    (httpx.Response(200, text="Mailgun Magnificent API"), AuthFailed()),
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
        *[httpx.Response(200, content=content) for content in (b"", b"{}", b"[]", b"null", b'"Queued"', b"{", b"\xff")],
        httpx.Response(200, json={"id": f"<{ID}>"}),
        httpx.Response(200, json={"id": f"<{ID}>", "message": "Sent"}),
        httpx.Response(200, json={"message": "Queued. Thank you."}),
        *[httpx.Response(200, json={"id": one, "message": "Queued."}) for one in ("", "<>", 7, None, "a b", "x" * 201)],
        httpx.Response(201, json={"id": f"<{ID}>", "message": "Queued. Thank you."}),
        httpx.Response(202, json={"id": f"<{ID}>", "message": "Queued. Thank you."}),
        error(200, NOT_ALLOWED),
    ],
)
def test_a_2xx_that_is_not_the_documented_one_is_unknown(response: httpx.Response) -> None:
    assert isinstance(classify(response), Unknown)


DATE = {"date": "Mon, 20 Dec 2021 20:33:01 GMT"}


@pytest.mark.parametrize(
    ("words", "headers", "wait"),
    [
        ("account-requests-per-sec limit exceeded, try again after 120 seconds", {}, timedelta(seconds=120)),
        ("limit exceeded, try again after Mon, 20 Dec 2021 20:33:21 UTC", DATE, timedelta(seconds=20)),
        ("limit exceeded, try again after Mon, 20 Dec 2021 20:33:21 UTC", {}, None),
        ("limit exceeded, try again after Tue, 21 Dec 2021 20:33:21 UTC", DATE, timedelta(hours=1)),
        ("limit exceeded, try again after the next full moon", DATE, None),
        ("limit exceeded", {"retry-after": "7"}, timedelta(seconds=7)),
        ("limit exceeded", {**DATE, "x-ratelimit-reset": "1640032391.5"}, timedelta(seconds=10.5)),
        ("limit exceeded", {}, None),
        ("try again after " + "9" * 300 + " seconds", {}, timedelta(hours=1)),
    ],
)
def test_a_throttled_response_names_its_wait(words: str, headers: dict[str, str], wait: timedelta | None) -> None:
    outcome = classify(error(429, NOT_ALLOWED + words, **headers))

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == wait


# Receipts

SIGNED_AT = datetime.fromtimestamp(1735689605, UTC)
TOKEN = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee0000"
# From the provider sheet: passes Mailgun's own client.
VECTOR = {
    "timestamp": "1735689605",
    "token": TOKEN,
    "signature": "82d354adbc48f92bd9bb68196f879d206ed11620a2605b0c9f299e45d39cfcde",
}
EVENT: dict[str, Any] = {
    "event": "delivered",
    "id": "hK7mQVt1QtqRiOfQXta4sw",
    "timestamp": 1735689605.123,
    "recipient": "ana@example.org",
    "message": {"headers": {"message-id": ID, "to": "ana@example.org"}, "attachments": [], "size": 809},
    "delivery-status": {"code": 250, "message": "OK", "description": "", "attempt-no": 1},
    "user-variables": {"ref": "att_1", "msg": "msg_1"},
}


def body_of(event: Any, signature: Any = VECTOR) -> bytes:
    return json.dumps({"signature": signature, "event-data": event}).encode()


def sign(timestamp: str, token: str = TOKEN, *, key: str = KEY) -> dict[str, str]:
    """Written from the documented recipe, apart from the package's own code."""
    digest = hmac.new(key.encode(), (timestamp + token).encode(), sha256).hexdigest()
    return {"timestamp": timestamp, "token": token, "signature": digest}


def sign_afresh(request: WebhookRequest, key: str) -> WebhookRequest:
    if not key:
        raise ValueError("no key")
    signature = sign(str(int(request.received_at.timestamp())), key=key)
    return replace(request, body=json.dumps({**json.loads(request.body), "signature": signature}).encode())


@dataclass(frozen=True)
class SignatureField:
    """A field of the signature in the body."""

    name: str

    def read(self, request: WebhookRequest) -> str:
        return str(json.loads(request.body)["signature"][self.name])

    def write(self, request: WebhookRequest, value: Any) -> WebhookRequest:
        body = json.loads(request.body)
        fields = {name: old for name, old in body["signature"].items() if name != self.name}
        body["signature"] = fields if value is None else {**fields, self.name: value}
        return replace(request, body=json.dumps(body).encode())


def other_fields(signed: WebhookRequest) -> Iterable[Forgery]:
    at = VECTOR["timestamp"]
    for value in (
        None,
        "",
        int(at),
        f"{at}.0",
        f"0{at}",
        f" {at}",
        "-1",
        "now",
        "9" * 400,
        "١٧٣٥٦٨٩٦٠٥",
        [at],
        at + "c",
    ):
        yield f"the timestamp {value}", SignatureField("timestamp").write(signed, value)
    for value in (None, "", 7, TOKEN[:-1], TOKEN + "0", TOKEN.upper(), [TOKEN], "x" * 400, TOKEN + "\x00"):
        yield f"the token {value}", SignatureField("token").write(signed, value)
    shifted = json.dumps({**VECTOR, "timestamp": at[:-1], "token": at[-1] + TOKEN})
    yield "a digit of the timestamp in the token", replace(signed, body=body_of(EVENT, json.loads(shifted)))
    signatures: tuple[Any, ...] = (None, [], "x", {}, [VECTOR])
    for signature in signatures:
        yield f"the signature {signature}", replace(signed, body=body_of(EVENT, signature))
    yield "the fields beside the event", replace(signed, body=json.dumps({**VECTOR, "event-data": EVENT}).encode())
    yield "a form", replace(signed, body="&".join(f"{name}={value}" for name, value in VECTOR.items()).encode())
    for body in (b"", b"[]", b"null", b"{", b"\xff"):
        yield f"the body {body!r}", replace(signed, body=body)


GENUINE = [
    Genuine(
        a_receipt(URL, {"content-type": "application/json"}, body_of(EVENT), at=SIGNED_AT),
        SignatureField("signature"),
        sign_afresh,
        key=KEY,
        other_key="key-1",
        secret="webhookSigningKey",
        covers_body=False,  # the endpoint accepts a token with one body only
        lifetime=timedelta(hours=9),
        more=other_fields,
    )
]


def reply(event: Any, signature: Any = VECTOR, at: datetime = SIGNED_AT) -> WebhookReply:
    return parse_webhook(a_receipt(URL, {}, body_of(event, signature), at=at), CREDENTIALS, {})


def receipt(**changes: Any) -> DeliveryReceipt:
    (found,) = reply({**EVENT, **changes}).receipts
    return found


def test_the_published_vector_is_genuine() -> None:
    assert receipt() == DeliveryReceipt(
        receipt_id="hK7mQVt1QtqRiOfQXta4sw:2025-01-01",
        type=EventType.DELIVERED,
        reference="att_1",
        provider_message_id=ID,
        recipient="ana@example.org",
        occurred_at=datetime(2025, 1, 1, 0, 0, 5, 123000, tzinfo=UTC),
        detail="250 OK",
    )


def test_the_reply_is_the_200_that_ends_repeats_and_the_token_that_is_accepted_once() -> None:
    for event in (EVENT, {**EVENT, "event": "unsubscribed"}, {**EVENT, "event": "stored"}, {}):
        found = reply(event)

        assert found.answer is not None
        assert (found.answer.status, found.token) == (200, TOKEN)


def test_the_signature_of_a_parent_account_is_accepted() -> None:
    own = sign("1735689605", key="the subaccount's")

    assert reply(EVENT, {**own, "parent-signature": VECTOR["signature"]}).receipts
    with pytest.raises(InvalidReceiptSignatureError):
        reply(EVENT, {**own, "parent-signature": own["signature"]})


def test_a_repeat_of_the_last_hours_is_believed() -> None:
    assert reply(EVENT, at=SIGNED_AT + timedelta(hours=8)).receipts


FAILED: dict[str, Any] = {"event": "failed", "severity": "permanent"}
EVENTS: list[tuple[dict[str, Any], EventType, Reason | None]] = [
    ({"event": "accepted", "method": "http"}, EventType.SENT, None),
    ({"event": "delivered"}, EventType.DELIVERED, None),
    (
        {"event": "failed", "severity": "temporary", "reason": "generic", "delivery-status": {"code": 451}},
        EventType.DEFERRED,
        None,
    ),
    (
        {**FAILED, "reason": "bounce", "delivery-status": {"code": 550, "enhanced-code": "5.1.1", "message": "no"}},
        EventType.BOUNCED,
        Reason.UNKNOWN_RECIPIENT,
    ),
    (
        {**FAILED, "reason": "generic", "delivery-status": {"code": 550, "message": "no"}},
        EventType.BOUNCED,
        Reason.OTHER,
    ),
    (
        {**FAILED, "reason": "generic", "delivery-status": {"code": 550, "message": "rejected as spam"}},
        EventType.BOUNCED,
        Reason.SPAM,
    ),
    (
        {**FAILED, "reason": "generic", "delivery-status": {"code": None, "enhanced-code": "5.2.1"}},
        EventType.BOUNCED,
        Reason.DISABLED,
    ),
    (
        {**FAILED, "reason": "hardfail", "delivery-status": {"code": 452, "message": "4.2.2"}},
        EventType.SOFT_BOUNCE,
        Reason.FULL,
    ),
    ({**FAILED, "reason": "espblock", "delivery-status": {"code": 498}}, EventType.SOFT_BOUNCE, Reason.BLOCKED),
    ({**FAILED, "reason": "blacklisted", "delivery-status": {"code": 499}}, EventType.SOFT_BOUNCE, Reason.BLOCKED),
    ({**FAILED, "reason": "old", "delivery-status": {"code": 602}}, EventType.SOFT_BOUNCE, Reason.EXPIRED),
    ({**FAILED, "reason": "suppress-bounce", "delivery-status": {"code": 605}}, EventType.FAILED, Reason.BLOCKED),
    ({**FAILED, "reason": "suppress-complaint", "delivery-status": None}, EventType.FAILED, Reason.COMPLAINT),
    ({**FAILED, "reason": "suppress-unsubscribe"}, EventType.FAILED, Reason.UNSUBSCRIBED),
    ({**FAILED, "reason": "suppress-new", "delivery-status": None}, EventType.FAILED, Reason.BLOCKED),
    ({**FAILED, "reason": "generic", "delivery-status": {"code": 605}}, EventType.FAILED, Reason.BLOCKED),
    ({**FAILED, "reason": "generic", "delivery-status": {"code": 607}}, EventType.FAILED, Reason.COMPLAINT),
    ({**FAILED, "reason": None, "delivery-status": None}, EventType.SOFT_BOUNCE, Reason.OTHER),
    ({"event": "rejected", "reject": {"reason": "Sandbox subdomains"}}, EventType.FAILED, Reason.POLICY),
    ({"event": "complained"}, EventType.COMPLAINED, Reason.COMPLAINT),
    ({"event": "opened", "client-info": {"bot": ""}}, EventType.OPENED, None),
    ({"event": "clicked", "url": "https://example.com/a"}, EventType.CLICKED, None),
]


@pytest.mark.parametrize(("fields", "type_", "reason"), EVENTS)
def test_every_event_has_its_type(fields: dict[str, Any], type_: EventType, reason: Reason | None) -> None:
    found = receipt(**fields)

    assert (found.type, found.reason) == (type_, reason)
    assert (found.reference, found.provider_message_id) == ("att_1", ID)


def test_the_recipient_of_a_rejected_mail_is_in_its_header() -> None:
    event = {name: value for name, value in EVENT.items() if name != "recipient"} | {"event": "rejected"}

    (found,) = reply(event).receipts

    assert found.recipient == "ana@example.org"


def test_a_late_bounce_is_found_by_the_message_id() -> None:
    found = receipt(**FAILED, **{"user-variables": {}, "flags": {"is-delayed-bounce": True}, "envelope": {}})

    assert (found.reference, found.provider_message_id) == (None, ID)


@pytest.mark.parametrize("kind", ["opened", "clicked"])
def test_what_a_machine_opens_or_clicks_says_nothing(kind: str) -> None:
    assert list(reply({**EVENT, "event": kind, "client-info": {"bot": "apple"}}).events) == []


def test_an_unsubscription_is_an_opt_out() -> None:
    (found,) = reply({**EVENT, "event": "unsubscribed"}).events

    assert found == OptOut("ana@example.org", occurred_at=datetime(2025, 1, 1, 0, 0, 5, 123000, tzinfo=UTC))


@pytest.mark.parametrize("name", ["stored", "list_member_uploaded", "", None, 7, []])
def test_an_event_about_something_else_says_nothing(name: Any) -> None:
    assert list(reply({**EVENT, "event": name}).events) == []


@pytest.mark.parametrize("event", [None, [], "x", 7, {}])
def test_a_genuine_body_without_an_event_says_nothing(event: Any) -> None:
    assert list(reply(event).events) == []


@pytest.mark.parametrize(
    ("changes", "receipt_id"),
    [
        ({}, "hK7mQVt1QtqRiOfQXta4sw:2025-01-01"),
        ({"timestamp": 1735776005}, "hK7mQVt1QtqRiOfQXta4sw:2025-01-02"),  # an id is unique within a day
        ({"id": None}, TOKEN),
        ({"timestamp": "soon"}, TOKEN),
    ],
)
def test_a_repeat_is_recognised_by_its_id_and_day(changes: dict[str, Any], receipt_id: str) -> None:
    assert receipt(**changes).receipt_id == receipt_id


@pytest.mark.parametrize("odd", [None, [], "x", 7, {}])
def test_odd_parts_of_an_event_are_no_error(odd: Any) -> None:
    found = receipt(message=odd, **{"user-variables": odd, "delivery-status": odd, "client-info": odd})

    assert (found.reference, found.provider_message_id) == (None, None)


def test_no_address_is_in_the_detail() -> None:
    status = {"code": 550, "message": "<ana@example.org> unknown"}

    assert receipt(**FAILED, **{"delivery-status": status}).detail == "permanent 550 <<address>> unknown"
