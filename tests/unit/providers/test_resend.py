"""provider-resend: the request, every row of the error table, and the forgery matrix of its receipts."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from sluice.model.address import InvalidAddressError
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, Scope, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.resend import ResendCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    UnsupportedMessageError,
    WebhookRequest,
)
from sluice.providers.kit.responses import MAX_RETRY_AFTER
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_attachment, an_email, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Header

SECRET = "whsec_cmVzZW5kLWZhY3Qtc2hlZXQtdGVzdC1rZXktMzJieXQ="
CREDENTIALS = ResendCredentials.model_validate({"apiKey": "re_123", "webhookSecret": SECRET})
SAMPLE = Sample({"apiKey": f"re_{HIDDEN}", "webhookSecret": f"whsec_{HIDDEN}"}, webhook_secret=f"whsec_{HIDDEN}")
URL = "https://hooks.example.test/receipts/prv_1"

# A vector that passes the svix library and Resend's own helper.
SIGNED_AT = datetime.fromtimestamp(1735689605, UTC)
BODY = (
    b'{"type":"email.delivered","created_at":"2025-01-01T00:00:05.000Z","data":{"email_id":'
    b'"0b5a7f3e-6c1d-4d55-9f5a-2f1d5b0c9a11","created_at":"2025-01-01T00:00:00.000Z","from":'
    b'"Acme <no-reply@example.com>","to":["ana@example.org"],"subject":"Hi","tags":{"msg":"m-1001"}}}'
)
HEADERS = {
    "svix-id": "msg_2test0000000000000000000",
    "svix-timestamp": "1735689605",
    "svix-signature": "v1,TXduff5ONJZU2f29UiljEw/41Ft5i7TlS4WZ1crlTDE=",
}


def body_of(request: httpx.Request) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(request.content)
    return parsed


# The request


def test_the_whole_mail_is_in_the_request() -> None:
    content = b"x" * 100
    file = an_attachment(content)
    mail = an_email(
        sender="Acme <no-reply@example.com>",
        to=("Ana <ana@example.org>", "ben@bücher.example"),
        cc=("c@example.org",),
        bcc=("d@example.org",),
        reply_to="help@example.com",
        html="<p>hi</p>",
        attachments=(file,),
    )

    request = build(outbound(mail, attachments={file.sha256: content}), CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", "https://api.resend.com/emails")
    assert request.headers["authorization"] == "Bearer re_123"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"]
    assert body_of(request) == {
        "from": "Acme <no-reply@example.com>",
        "to": ["Ana <ana@example.org>", "ben@xn--bcher-kva.example"],
        "cc": ["c@example.org"],
        "bcc": ["d@example.org"],
        "reply_to": "help@example.com",
        "subject": "Hi",
        "html": "<p>hi</p>",
        "text": "hi",
        "attachments": [
            {
                "content": base64.b64encode(content).decode(),
                "filename": "a.pdf",
                "content_type": "application/pdf",
            }
        ],
        "headers": {"X-Sluice-Message-Id": "msg_01HX"},
        "tags": [{"name": "msg", "value": "msg_01HX"}, {"name": "ref", "value": "att_01HX"}],
    }


def test_empty_fields_are_omitted() -> None:
    assert {"cc", "bcc", "reply_to", "html", "attachments"}.isdisjoint(
        body_of(build(outbound(an_email()), CREDENTIALS))
    )


def test_a_repeat_has_the_same_key_over_the_same_bytes() -> None:
    first, second = (build(outbound(an_email()), CREDENTIALS) for _ in range(2))

    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "att_01HX"
    assert first.content == second.content


def test_another_address_can_be_configured() -> None:
    credentials = ResendCredentials.model_validate({"apiKey": "re_1", "baseUrl": "http://127.0.0.1:9/x/"})

    assert str(build(outbound(an_email()), credentials).url) == "http://127.0.0.1:9/x/emails"


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://user:pw@x", "http://x/?a=b", "http://x/#f", "http://x\r\n", "//x", "http://"]
)
def test_an_address_that_hides_something_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        ResendCredentials.model_validate({"apiKey": "re_1", "baseUrl": url})


@pytest.mark.parametrize("key", ["", " ", "re_1\r\nX: y", "re 1", "ré_1", "re_1\x00"])
def test_a_key_that_cannot_stand_in_a_header_is_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        ResendCredentials.model_validate({"apiKey": key})


def test_a_key_loses_the_line_end_it_was_pasted_with() -> None:
    credentials = ResendCredentials.model_validate({"apiKey": " re_1\n"})

    assert build(outbound(an_email()), credentials).headers["authorization"] == "Bearer re_1"


@pytest.mark.parametrize("content", [an_sms(), an_email(to=("jörg@example.org",)), an_email(bcc=("аня@example.org",))])
def test_what_it_cannot_carry_is_refused(content: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(outbound(content), CREDENTIALS)


def test_an_invalid_address_is_refused() -> None:
    with pytest.raises(InvalidAddressError):
        build(outbound(an_email(to=("ana\r\n@example.org",))), CREDENTIALS)


def test_an_inline_image_and_an_invitation_are_attachments_with_their_whole_type() -> None:
    logo = an_attachment(b"logo", filename="l.png", content_type="image/png", content_id="logo")
    invitation = an_attachment(b"BEGIN", filename="i.ics", content_type="text/calendar; method=REQUEST; charset=UTF-8")
    mail = an_email(html='<img src="cid:logo">', attachments=(logo, invitation))

    request = build(outbound(mail, attachments={logo.sha256: b"logo", invitation.sha256: b"BEGIN"}), CREDENTIALS)

    assert body_of(request)["attachments"] == [
        {"content": "bG9nbw==", "filename": "l.png", "content_type": "image/png", "content_id": "logo"},
        {"content": "QkVHSU4=", "filename": "i.ics", "content_type": "text/calendar; method=REQUEST; charset=UTF-8"},
    ]


# Answers


def test_a_200_with_an_id_is_accepted() -> None:
    assert classify(httpx.Response(200, json={"id": "0b5a7f3e"})) == Accepted("0b5a7f3e", receipt_ids=("0b5a7f3e",))


ROWS: list[tuple[int, str | None, type[Outcome]]] = [
    (400, "validation_error", Declined),
    (400, "invalid_idempotency_key", Declined),
    (401, "missing_api_key", AuthFailed),
    (401, "restricted_api_key", Declined),
    (403, "invalid_api_key", AuthFailed),
    (403, "suspended_api_key", AuthFailed),
    (403, "invalid_permission", AuthFailed),
    (403, "validation_error", Declined),
    (403, "invalid_from_address", Declined),
    (422, "invalid_from_address", Declined),
    (404, "not_found", AuthFailed),
    (405, "method_not_allowed", AuthFailed),
    (409, "invalid_idempotent_request", Unknown),
    (409, "concurrent_idempotent_requests", Unknown),
    (413, None, Declined),
    (422, "missing_required_field", Declined),
    (422, "missing_required_parameter", Declined),
    (422, "invalid_parameter", Declined),
    (422, "invalid_attachment", Declined),
    (422, "validation_error", Declined),
    (422, "invalid_access", AuthFailed),
    (422, "invalid_region", AuthFailed),
    (429, "rate_limit_exceeded", Throttled),
    (429, "daily_quota_exceeded", Throttled),
    (429, "monthly_quota_exceeded", Throttled),
    (451, "security_error", Declined),
    (500, "application_error", ProviderFault),
    (500, "internal_server_error", ProviderFault),
    (503, "service_unavailable", ProviderFault),
    # unknown names, and responses that are not Resend's
    (400, "something_new", Declined),
    (401, None, AuthFailed),
    (403, "something_new", AuthFailed),
    (409, None, Unknown),
    (422, "something_new", Declined),
    (429, None, Throttled),
    (500, None, Unknown),
    (502, None, Unknown),
    (503, None, Unknown),
    (504, None, Unknown),
    (302, None, Unknown),
    (100, None, Unknown),
]


@pytest.mark.parametrize(("status", "name", "outcome"), ROWS)
def test_a_refusal_is_classified(status: int, name: str | None, outcome: type[Outcome]) -> None:
    body = {"statusCode": status, "name": name, "message": "words"} if name else None
    answer = httpx.Response(status, json=body) if body else httpx.Response(status, text="<h1>words</h1>")

    found = classify(answer)
    assert type(found) is outcome
    assert not isinstance(found, Declined) or found.scope is Scope.MESSAGE


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Welcome</html>", b"null", b"[]", b'"id"', b"{}", b'{"id":7}', b'{"id":""}', b'{"id":null}', b"{",
     b'{"statusCode":422,"name":"validation_error","message":"no"}', b'{"id":"' + b"x" * 9999 + b'"}', b"\xff\x00"],
)  # fmt: skip
def test_a_200_that_is_not_the_documented_one_is_unknown_or_what_it_says(content: bytes) -> None:
    assert isinstance(classify(httpx.Response(200, content=content)), Unknown)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "30"}, timedelta(seconds=30)),
        ({"retry-after": "0"}, timedelta(seconds=1)),
        ({"retry-after": "-5"}, timedelta(seconds=1)),
        ({"retry-after": "9" * 400}, timedelta(hours=1)),
        ({"retry-after": "1e300"}, timedelta(hours=1)),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
        (
            {"retry-after": "Mon, 04 May 2026 12:01:00 GMT", "date": "Mon, 04 May 2026 12:00:00 GMT"},
            timedelta(seconds=60),
        ),
        ({"retry-after": "Mon, 04 May 2026 12:01:00 GMT"}, None),
    ],
)
def test_a_throttled_answer_carries_the_providers_own_wish(headers: dict[str, str], wait: timedelta | None) -> None:
    outcome = classify(httpx.Response(429, headers=headers, json={"name": "rate_limit_exceeded"}))

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == wait


@pytest.mark.parametrize("name", ["daily_quota_exceeded", "monthly_quota_exceeded"])
def test_a_used_up_quota_is_a_long_pause(name: str) -> None:
    outcome = classify(httpx.Response(429, json={"name": name}))

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == MAX_RETRY_AFTER


# Receipts


def sign(body: bytes, *, secret: str = SECRET, at: int = 1735689605, event_id: str = "msg_1") -> dict[str, str]:
    """Written from the documented recipe, apart from the package's own code."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{at}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()
    return {"svix-id": event_id, "svix-timestamp": str(at), "svix-signature": f"v1,{signature}"}


def sign_afresh(request: WebhookRequest, key: str) -> WebhookRequest:
    headers = sign(request.body, secret=key, at=int(request.received_at.timestamp()))
    return replace(request, headers={**request.headers, **headers})


GENUINE = [
    Genuine(
        a_receipt(URL, {}, BODY, at=SIGNED_AT),
        Header("svix-signature"),
        sign_afresh,
        key=SECRET,
        other_key="whsec_b3RoZXI=",
        secret="webhookSecret",
        lifetime=timedelta(seconds=300),
    )
]


def event(kind: str, **data: Any) -> bytes:
    body = {
        "type": kind,
        "created_at": "2025-01-01T00:00:05.894719+00:00",
        "data": {
            "email_id": "0b5a7f3e",
            "created_at": "2025-01-01T00:00:00.000Z",
            "to": ["ana@example.org"],
            "tags": {"msg": "msg_1", "ref": "att_1"},
            **data,
        },
    }
    return json.dumps(body).encode()


def receipts(body: bytes, headers: dict[str, str] | None = None, at: datetime = SIGNED_AT) -> list[DeliveryReceipt]:
    return parse_webhook(a_receipt(URL, headers or sign(body), body, at=at), CREDENTIALS, {}).receipts


def test_the_published_vector_is_genuine() -> None:
    (receipt,) = receipts(BODY, HEADERS)

    assert receipt == DeliveryReceipt(
        receipt_id="msg_2test0000000000000000000",
        type=EventType.DELIVERED,
        reference=None,
        provider_message_id="0b5a7f3e-6c1d-4d55-9f5a-2f1d5b0c9a11",
        recipient="ana@example.org",
        occurred_at=datetime(2025, 1, 1, 0, 0, 5, tzinfo=UTC),
    )


def test_a_repeat_signed_afresh_is_the_same_receipt() -> None:
    body = event("email.delivered")

    first = receipts(body, sign(body, at=1735689605))
    again = receipts(body, sign(body, at=1735689700), SIGNED_AT + timedelta(seconds=95))

    assert first == again
    assert first[0].reference == "att_1"


@pytest.mark.parametrize("kind", ["email.opened", "email.clicked", "email.failed", "email.suppressed"])
def test_an_event_without_tags_is_found_by_the_id_of_the_mail(kind: str) -> None:
    accepted = classify(httpx.Response(200, json={"id": "0b5a7f3e"}))

    (receipt,) = receipts(event(kind, tags=None))

    assert isinstance(accepted, Accepted)
    assert (receipt.reference, receipt.provider_message_id) == (None, *accepted.receipt_ids)


def test_the_other_spelling_of_the_headers_is_understood() -> None:
    headers = {name.replace("svix-", "webhook-"): value for name, value in HEADERS.items()}

    assert len(receipts(BODY, headers)) == 1


def test_one_fitting_signature_among_several_is_enough() -> None:
    rotated = {**HEADERS, "svix-signature": "v1,AAAA v2,x " + HEADERS["svix-signature"]}

    assert len(receipts(BODY, rotated)) == 1


@pytest.mark.parametrize("secret", ["whsec_", "whsec_AA==", "whsec_c2hvcnQ="])
def test_finding_7_a_secret_that_is_too_short_verifies_nothing(secret: str) -> None:
    credentials = ResendCredentials.model_validate({"apiKey": "re_1", "webhookSecret": secret})
    headers = sign(BODY, secret=secret)

    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(a_receipt(URL, headers, BODY, at=SIGNED_AT), credentials, {})


GOOD = HEADERS["svix-signature"]
# Beside the forgery matrix.
FORGERIES: list[tuple[str, dict[str, str | None], bytes]] = [
    ("only a version", {"svix-signature": "v1,"}, BODY),
    ("another version", {"svix-signature": GOOD.replace("v1,", "v2,")}, BODY),
    ("no version", {"svix-signature": GOOD.removeprefix("v1,")}, BODY),
    ("hex", {"svix-signature": "v1," + base64.b64decode(GOOD[3:]).hex()}, BODY),
    ("two false ones joined", {"svix-signature": f"{GOOD[:-3]}AA=, v1,AAAA"}, BODY),
    ("only the prefix of a key", {**sign(BODY, secret="whsec_", event_id=HEADERS["svix-id"])}, BODY),
    ("another id", {"svix-id": "msg_other"}, BODY),
    ("no id", {"svix-id": None}, BODY),
    ("another timestamp", {"svix-timestamp": "1735689606"}, BODY),
    ("no timestamp", {"svix-timestamp": None}, BODY),
    ("a timestamp in words", {"svix-timestamp": "now"}, BODY),
    ("a negative timestamp", {"svix-timestamp": "-1"}, BODY),
    ("a huge timestamp", {"svix-timestamp": "9" * 400}, BODY),
    ("a timestamp in other digits", {"svix-timestamp": "١٧٣٥٦٨٩٦٠٥"}, BODY),
]


@pytest.mark.parametrize(("changes", "body"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
def test_a_forgery_is_refused(changes: dict[str, str | None], body: bytes) -> None:
    headers = {name: value for name, value in {**HEADERS, **changes}.items() if value is not None}

    with pytest.raises(InvalidReceiptSignatureError):
        receipts(body, headers)


@pytest.mark.parametrize("seconds", [301, -301, 3600, 8 * 86400])
def test_a_replay_at_another_time_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        receipts(BODY, HEADERS, SIGNED_AT + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [300, -300])
def test_five_minutes_of_clock_skew_are_allowed(seconds: int) -> None:
    assert receipts(BODY, HEADERS, SIGNED_AT + timedelta(seconds=seconds))


def test_without_a_secret_nothing_is_believed() -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(
            a_receipt(URL, HEADERS, BODY, at=SIGNED_AT), ResendCredentials.model_validate({"apiKey": "re_1"}), {}
        )


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("email.sent", {}, EventType.SENT),
        ("email.delivered", {}, EventType.DELIVERED),
        ("email.delivery_delayed", {}, EventType.DEFERRED),
        ("email.bounced", {"bounce": {"type": "Permanent", "subType": "General"}}, EventType.BOUNCED),
        ("email.bounced", {"bounce": {"type": "Permanent", "subType": "Suppressed"}}, EventType.FAILED),
        (
            "email.bounced",
            {"bounce": {"type": "Permanent", "subType": "OnAccountSuppressionList"}},
            EventType.FAILED,
        ),
        ("email.bounced", {"bounce": {"type": "Transient"}}, EventType.SOFT_BOUNCE),
        ("email.bounced", {"bounce": {"type": "Undetermined"}}, EventType.SOFT_BOUNCE),
        ("email.bounced", {"bounce": {"type": "Brandnew"}}, EventType.SOFT_BOUNCE),
        ("email.bounced", {}, EventType.SOFT_BOUNCE),
        ("email.bounced", {"bounce": "odd"}, EventType.SOFT_BOUNCE),
        ("email.suppressed", {"suppressed": {"reason": "previous_bounce"}}, EventType.FAILED),
        ("email.failed", {"failed": {"reason": "reached_daily_quota"}}, EventType.FAILED),
        ("email.complained", {}, EventType.COMPLAINED),
        ("email.opened", {}, EventType.OPENED),
        ("email.clicked", {"click": {"link": "https://example.com"}}, EventType.CLICKED),
    ],
)
def test_an_event_says_what_became_of_the_mail(kind: str, data: dict[str, Any], expected: EventType) -> None:
    (receipt,) = receipts(event(kind, **data))

    assert receipt.type is expected


@pytest.mark.parametrize(
    ("bounce", "reason"),
    [
        ({"subType": "General", "diagnosticCode": ["smtp; 550 5.1.1 user unknown"]}, Reason.UNKNOWN_RECIPIENT),
        ({"subType": "General", "diagnosticCode": ["smtp; 550 5.7.1 refused by policy"]}, Reason.BLOCKED),
        ({"subType": "General", "diagnosticCode": "smtp; 552 5.3.4 too big"}, Reason.TOO_LARGE),
        ({"subType": "General", "message": "Rejected as spam.", "diagnosticCode": []}, Reason.SPAM),
        ({"subType": "General"}, Reason.OTHER),
        ({"subType": "NoEmail"}, Reason.UNKNOWN_RECIPIENT),
        ({"subType": "ContentRejected"}, Reason.SPAM),
        ({"subType": "AttachmentRejected"}, Reason.POLICY),
        ({"subType": "MessageRejected"}, Reason.POLICY),
        ({"subType": "MessageTooLarge"}, Reason.TOO_LARGE),
        ({"subType": "MailboxFull"}, Reason.FULL),
    ],
)
def test_the_cause_of_a_bounce_is_its_subtype_or_what_the_mail_server_said(
    bounce: dict[str, Any], reason: Reason
) -> None:
    (permanent,) = receipts(event("email.bounced", bounce={"type": "Permanent", **bounce}))
    (transient,) = receipts(event("email.bounced", bounce={"type": "Transient", **bounce}))

    assert (permanent.type, permanent.reason) == (EventType.BOUNCED, reason)
    assert (transient.type, transient.reason) == (EventType.SOFT_BOUNCE, reason)


@pytest.mark.parametrize(
    "body",
    [
        event("email.scheduled"),
        event("email.received"),
        event("contact.created"),
        event("email.something_new"),
        b'{"type":7,"data":{}}',
        b'{"type":"email.sent","data":[]}',
        b"[]",
        b"not json",
        b"\xff\xfe",
    ],
)
def test_a_genuine_event_that_says_nothing_about_a_mail_is_no_receipt(body: bytes) -> None:
    assert receipts(body) == []


@pytest.mark.parametrize("codes", [["smtp; 550 5.1.1 <ana@example.org> unknown"], "smtp; 550 5.1.1 unknown", None])
def test_the_detail_holds_the_diagnosis_and_no_address(codes: Any) -> None:
    bounce = {"type": "Permanent", "subType": "General", "message": "refused", "diagnosticCode": codes}

    (receipt,) = receipts(event("email.bounced", bounce=bounce))

    assert receipt.detail.startswith("Permanent General refused")
    assert "ana@" not in receipt.detail


@pytest.mark.parametrize("data", [{"to": ["a@x", "b@x"]}, {"to": "a@x"}, {"tags": ["x"]}, {"tags": None, "to": None}])
def test_odd_data_never_stops_a_genuine_receipt(data: dict[str, Any]) -> None:
    (receipt,) = receipts(event("email.delivered", **data))

    assert receipt.provider_message_id == "0b5a7f3e"
