"""provider-africastalking: the request, every code and status, and the receipts, whose only proof is a token."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
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
from sluice.model.suppression import suppression_reason
from sluice.providers.adapters.africastalking import AfricasTalkingCredentials, build, classify, parse_webhook
from sluice.providers.contract import DeliveryReceipt, InboundMessage, OptOut, UnsupportedMessageError, WebhookRequest
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_email, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Parameter

SAMPLE = Sample({"username": "acme", "apiKey": HIDDEN, "from": "ACME", "webhookToken": HIDDEN}, webhook_secret=HIDDEN)
TOKEN = "token-0123456789abc"
FIELDS: dict[str, Any] = {"username": "acme", "apiKey": "atsk_1", "from": "ACME", "webhookToken": TOKEN}
CREDENTIALS = AfricasTalkingCredentials.model_validate(FIELDS)
ID = "ATXid_0123456789abcdef0123456789abcdef"
NUMBER = "+254711000001"


def account(**changes: Any) -> AfricasTalkingCredentials:
    return AfricasTalkingCredentials.model_validate({**FIELDS, **changes})


def form_of(request: httpx.Request) -> dict[str, str]:
    return dict(parse_qsl(request.content.decode(), keep_blank_values=True, strict_parsing=True))


# Credentials and the request


def test_the_whole_request() -> None:
    request = build(outbound(an_sms(text="Grüße & +mehr"), recipient=NUMBER), CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", "https://api.africastalking.com/version1/messaging")
    assert request.headers["apiKey"] == "atsk_1"
    assert request.headers["accept"] == "application/json"  # otherwise the answer is XML
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert b"to=%2B254711000001" in request.content
    assert form_of(request) == {
        "username": "acme",
        "to": NUMBER,
        "message": "Grüße & +mehr",
        "bulkSMSMode": "1",
        "from": "ACME",
    }


def test_only_what_is_required() -> None:
    credentials = AfricasTalkingCredentials.model_validate({"username": "acme", "apiKey": "k"})

    form = form_of(build(outbound(an_sms(sender="", text="x"), recipient="254711000001"), credentials))

    assert form == {"username": "acme", "to": NUMBER, "message": "x", "bulkSMSMode": "1"}  # and no empty ``from``


@pytest.mark.parametrize(("own", "expected"), [("ACME", "ACME"), (None, "OTHER")])
def test_the_sender_is_the_accounts_else_the_messages(own: str | None, expected: str) -> None:
    assert form_of(build(outbound(an_sms(sender="OTHER")), account(**{"from": own})))["from"] == expected


def test_the_provider_may_answer_before_the_network_has_the_message() -> None:
    assert form_of(build(outbound(an_sms()), account(enqueue=True)))["enqueue"] == "1"


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, "https://api.africastalking.com"),
        ({"username": "sandbox"}, "https://api.sandbox.africastalking.com"),
        ({"username": "sandbox", "baseUrl": "http://127.0.0.1:1/"}, "http://127.0.0.1:1"),
    ],
)
def test_the_user_name_chooses_the_host(fields: dict[str, Any], host: str) -> None:
    assert str(build(outbound(an_sms()), account(**fields)).url) == f"{host}/version1/messaging"


@pytest.mark.parametrize("text", ["🙂" * 400, "a" * 5000, "ላ", "\x00", "\r\n", "&=+%"])
def test_any_text_is_sent_as_it_is(text: str) -> None:
    assert form_of(build(outbound(an_sms(text=text)), CREDENTIALS))["message"] == text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"username": ""}, "username"),
        ({"username": None}, "username"),
        ({"apiKey": None}, "apiKey"),
        ({"apiKey": "two\nlines"}, "apiKey"),
        ({"from": ""}, "from"),
        ({"from": "x" * 21}, "from"),
        ({"baseUrl": "gopher://x"}, "baseUrl"),
        ({"webhookToken": "short"}, "webhookToken"),
        ({"senderId": "ACME"}, "senderId"),
    ],
)
def test_credentials_that_cannot_work_are_refused_by_their_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        account(**fields)


@pytest.mark.parametrize(
    "message",
    [
        outbound(an_email()),
        outbound(an_sms(text="half \ud83d")),
        outbound(an_sms(), recipient="+254711000001,+254711000002"),  # would be two recipients
        outbound(an_sms(), recipient="ana"),
        outbound(an_sms(), recipient=""),
    ],
)
def test_what_it_cannot_send_is_refused(message: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(message, CREDENTIALS)


# Responses


def answer(code: Any = 101, http: int = 201, **changes: Any) -> httpx.Response:
    entry = {"statusCode": code, "number": NUMBER, "status": "Success", "cost": "KES 0.8000", "messageId": ID}
    data = {"Message": "Sent to 1/1 Total Cost: USD 0.0079 Message parts: 1", "Recipients": [entry | changes]}
    return httpx.Response(http, json={"SMSMessageData": data})


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("code", [100, 101, 102, "101"])
def test_a_recipient_that_was_taken_is_accepted_and_its_id_leads_the_receipts_here(code: Any, status: int) -> None:
    assert classify(answer(code, status)) == Accepted(ID, (ID,))


ACCOUNT_POLICY = Declined(Reason.POLICY, scope=Scope.ACCOUNT)
NO_BALANCE = Declined(Reason.QUOTA, scope=Scope.ACCOUNT)
RECIPIENT_CODES: list[tuple[int, str, Refusal]] = [
    (401, "RiskHold", ACCOUNT_POLICY),
    (402, "InvalidSenderId", Declined(Reason.SENDER)),
    (403, "InvalidPhoneNumber", RecipientRejected(Reason.INVALID_ADDRESS)),
    (404, "UnsupportedNumberType", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (405, "InsufficientBalance", NO_BALANCE),
    (406, "UserInBlacklist", Declined(Reason.BLOCKED)),
    (407, "CouldNotRoute", Declined(Reason.UNSUPPORTED)),
    (409, "DoNotDisturbRejection", Declined(Reason.POLICY)),
    (500, "InternalServerError", ProviderFault()),
    (501, "GatewayError", ProviderFault()),
    (502, "RejectedByGateway", ProviderFault()),
    (408, "SomethingNew", ProviderFault()),
]


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("message_id", ["None", None, ""])
@pytest.mark.parametrize(("code", "words", "expected"), RECIPIENT_CODES)
def test_a_refused_recipient_is_inside_of_a_201(
    code: int, words: str, expected: Refusal, message_id: Any, status: int
) -> None:
    outcome = classify(answer(code, status, status=words, messageId=message_id))

    assert outcome == replace(expected, detail=f"{status} {code} {words}")


def test_an_undocumented_code_with_a_message_id_is_a_send() -> None:
    assert classify(answer(103)) == Accepted(ID, (ID,))


@pytest.mark.parametrize("code", [None, "", "sent", 1030])
def test_an_entry_without_a_code_is_unknown(code: Any) -> None:
    assert isinstance(classify(answer(code)), Unknown)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("InvalidSenderId", Declined(Reason.SENDER)),
        ("Invalid sender", Declined(Reason.SENDER)),
        ("InsufficientBalance", NO_BALANCE),
        ("Not enough credit", NO_BALANCE),
        ("Your account is suspended", AuthFailed()),
        ("Unknown username", AuthFailed()),
        ("The phone numbers are not valid", Declined(Reason.INVALID_CONTENT)),
        ("", Declined(Reason.INVALID_CONTENT)),
    ],
)
def test_an_empty_list_means_that_nothing_was_sent_and_the_word_says_why(words: str, expected: Refusal) -> None:
    outcome = classify(httpx.Response(201, json={"SMSMessageData": {"Message": words, "Recipients": []}}))

    assert outcome == replace(expected, detail=f"201 {words or 'without a documented error'}")


@pytest.mark.parametrize(
    "response",
    [
        *[httpx.Response(201, content=content) for content in (b"", b"{}", b"[]", b'{"SMSMessageData":7}')],
        httpx.Response(201, content=b'<AfricasTalkingResponse><SMSMessageData/></AfricasTalkingResponse>'),
        httpx.Response(201, json={"SMSMessageData": {"Message": "Sent to 1/1"}}),
        httpx.Response(201, json={"SMSMessageData": {"Recipients": "odd"}}),
        httpx.Response(201, json={"SMSMessageData": {"Recipients": [7]}}),
        httpx.Response(201, json={"SMSMessageData": {"Recipients": [{}]}}),
        httpx.Response(201, json={"SMSMessageData": {"Recipients": [{"statusCode": 101, "messageId": ID}] * 2}}),
        *[answer(code, messageId=odd) for code in (100, 101, 102) for odd in ("None", None, "", "a b", 7)],
        *[answer(code) for code in (None, True, "odd", 0, 1.5, -101, "１０１", "9" * 5000)],
        answer(101, 202),
        answer(101, 302),
        answer(101, 500),
    ],
)  # fmt: skip
def test_what_is_not_the_documented_success_is_unknown(response: httpx.Response) -> None:
    assert isinstance(classify(response), Unknown)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, Declined), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed), (429, Throttled)],
        *[(500, Unknown), (502, Unknown), (503, ProviderFault), (504, Unknown), (302, Unknown), (418, Unknown)],
    ],
)
@pytest.mark.parametrize("body", ["", "The supplied authentication is invalid", "{}", '{"SMSMessageData":{}}', "[1]"])
def test_otherwise_the_status_decides(status: int, outcome: type[Outcome], body: str) -> None:
    assert type(classify(httpx.Response(status, text=body))) is outcome


def test_the_plain_text_of_an_error_is_kept() -> None:
    response = httpx.Response(401, text="The supplied authentication is invalid")

    assert classify(response) == AuthFailed("401 The supplied authentication is invalid")


def test_a_retry_after_is_used_where_there_is_one() -> None:
    assert classify(httpx.Response(429, headers={"retry-after": "7"})) == Throttled(
        "429 without a documented error", timedelta(seconds=7)
    )


# Receipts

URL = "https://hooks.example.test/receipts/prv_1"
FAILED = {
    "id": ID,
    "status": "Failed",
    "phoneNumber": NUMBER,
    "networkCode": "63902",
    "failureReason": "UserDoesNotExist",
    "retryCount": "0",
}


def with_token(request: WebhookRequest, key: str) -> WebhookRequest:
    return replace(request, url=f"{URL}?token={key}")


GENUINE = [
    Genuine(
        a_receipt(URL, {"content-type": "application/x-www-form-urlencoded"}, urlencode(FAILED).encode()),
        Parameter("token"),
        with_token,
        key=TOKEN,
        other_key=TOKEN + "x",
        secret="webhookToken",
        covers_body=False,
    )
]


def events(fields: Any) -> list[Any]:
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    return list(parse_webhook(a_receipt(f"{URL}?token={TOKEN}", {}, body), CREDENTIALS, {}).events)


def test_a_receipt_is_understood() -> None:
    assert events(FAILED) == [
        DeliveryReceipt(
            receipt_id=f"{ID}:Failed",
            type=EventType.BOUNCED,
            provider_message_id=ID,
            recipient=NUMBER,
            reason=Reason.UNKNOWN_RECIPIENT,
            detail="Failed UserDoesNotExist",
        )
    ]


STATUSES: list[tuple[str, EventType, Reason | None]] = [
    ("Sent", EventType.SENT, None),
    ("Submitted", EventType.SENT, None),
    ("Buffered", EventType.SENT, None),
    ("Success", EventType.DELIVERED, None),
    ("Rejected", EventType.FAILED, Reason.BLOCKED),
    ("Failed", EventType.FAILED, Reason.NETWORK),
    ("Expired", EventType.SOFT_BOUNCE, Reason.EXPIRED),
    ("AbsentSubscriber", EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
]


@pytest.mark.parametrize("change", [str, str.lower, str.upper])
@pytest.mark.parametrize(("status", "kind", "reason"), STATUSES)
def test_every_status_in_any_case(status: str, kind: EventType, reason: Reason | None, change: Any) -> None:
    (receipt,) = events({"id": ID, "status": change(status), "phoneNumber": NUMBER})

    assert (receipt.type, receipt.reason) == (kind, reason)


REASONS: list[tuple[str, EventType, Reason]] = [
    ("InsufficientCredit", EventType.FAILED, Reason.QUOTA),
    ("InvalidLinkId", EventType.FAILED, Reason.INVALID_CONTENT),
    ("UserIsInactive", EventType.BOUNCED, Reason.DISABLED),
    ("UserAccountSuspended", EventType.BOUNCED, Reason.DISABLED),
    ("DoNotDisturbRejection", EventType.BOUNCED, Reason.POLICY),
    ("UserInDND", EventType.BOUNCED, Reason.POLICY),
    ("NotNetworkSubscriber", EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    ("NotNetworkSubscribered", EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    ("UserDoesNotExist", EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    ("userdoesnotexist", EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    ("UserNotSubscribedToProduct", EventType.FAILED, Reason.OTHER),
    ("AbsentSubscriber", EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
    ("DeliveryFailure", EventType.FAILED, Reason.NETWORK),
    ("RouteFailure", EventType.FAILED, Reason.NETWORK),
]


@pytest.mark.parametrize("status", ["Rejected", "Failed"])
@pytest.mark.parametrize(("failure", "kind", "reason"), REASONS)
def test_every_failure_reason(failure: str, kind: EventType, reason: Reason, status: str) -> None:
    (receipt,) = events({**FAILED, "status": status, "failureReason": failure})

    assert (receipt.type, receipt.reason, receipt.detail) == (kind, reason, f"{status} {failure}")


@pytest.mark.parametrize("failure", ["UserInBlackList", "UserInBlacklist"])
def test_the_block_list_of_a_sender_suppresses_no_number(failure: str) -> None:
    (receipt,) = events({**FAILED, "failureReason": failure})

    assert (receipt.type, receipt.reason) == (EventType.BOUNCED, Reason.BLOCKED)
    assert suppression_reason(receipt.type, receipt.reason) is None


def test_a_reason_that_is_not_known_leaves_the_status() -> None:
    (receipt,) = events({**FAILED, "failureReason": "SomethingNew"})

    assert (receipt.type, receipt.reason) == (EventType.FAILED, Reason.NETWORK)


def test_a_reason_beside_a_success_changes_nothing() -> None:
    (receipt,) = events({**FAILED, "status": "Success"})

    assert (receipt.type, receipt.reason) == (EventType.DELIVERED, None)


def test_an_opt_out() -> None:
    assert events({"senderId": "ACME", "phoneNumber": NUMBER}) == [OptOut(NUMBER)]
    assert events({"senderId": "ACME", "phoneNumber": NUMBER.removeprefix("+")}) == [OptOut(NUMBER)]


@pytest.mark.parametrize(
    ("date", "at"),
    [
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("yesterday", None),
        (None, None),
    ],
)
def test_an_inbound_message(date: str | None, at: datetime | None) -> None:
    fields = {"linkId": "l", "text": "Grüße", "to": "12345", "id": "in-1", "from": NUMBER}

    assert events(fields | ({"date": date} if date else {})) == [InboundMessage("in-1", NUMBER, "Grüße", "12345", at)]


@pytest.mark.parametrize(
    "fields",
    [
        *[{}, {"id": ID}, {"status": "Success"}, {"id": ID, "status": "New"}, {"id": "a b", "status": "Success"}],
        *[b"", b"not a form", b"id=%FF&status=Success", b"\xff", b"{}", {"id": ID, "status": ""}],
        {f"a{number}": "1" for number in range(300)},
        {"from": NUMBER, "text": "no id"},
    ],
)
def test_a_callback_that_says_nothing_about_a_message_is_no_event(fields: Any) -> None:
    assert events(fields) == []
