"""provider-infobip: the request, every status and error id, and the receipts with both proofs of origin."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
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
from sluice.providers.adapters.infobip import INFOBIP, InfobipCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    OptOut,
    UnsupportedMessageError,
    WebhookEvent,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_email, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Header, Parameter

SAMPLE = Sample(
    {
        "apiKey": HIDDEN,
        "baseUrl": "https://xyz1.api.infobip.com",
        "from": "ACME",
        "webhookToken": HIDDEN,
        "webhookUser": "infobip",
        "webhookPassword": HIDDEN,
    }
)
TOKEN = "token-0123456789abc"
FIELDS: dict[str, Any] = {
    "apiKey": "003026bbc133714df1834b8638bb496e-8f4b3d9a-e931-478d-a994-28a725159ab9",
    "baseUrl": "xyz1.api.infobip.com",
    "from": "ACME",
    "webhookToken": TOKEN,
}
CREDENTIALS = InfobipCredentials.model_validate(FIELDS)
URL = "https://hooks.example.test/v1/receipts/prv_1"


def account(**changes: Any) -> InfobipCredentials:
    return InfobipCredentials.model_validate({**FIELDS, **changes})


def message_of(request: httpx.Request) -> dict[str, Any]:
    (message,) = json.loads(request.content)["messages"]
    found: dict[str, Any] = message
    return found


# Credentials and the request


def test_the_whole_request() -> None:
    message = outbound(an_sms(text="Grüße 🙂"), recipient="+2348012345678", reference="att_42", callback_url=URL)

    request = build(message, CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", "https://xyz1.api.infobip.com/sms/3/messages")
    assert request.headers["authorization"] == f"App {FIELDS['apiKey']}"
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"
    assert json.loads(request.content) == {
        "messages": [
            {
                "sender": "ACME",
                "destinations": [{"to": "2348012345678", "messageId": "att_42"}],
                "content": {"text": "Grüße 🙂"},
                "webhooks": {"delivery": {"url": f"{URL}?token={TOKEN}"}, "contentType": "application/json"},
            }
        ]
    }


def test_only_what_is_required() -> None:
    credentials = InfobipCredentials.model_validate({"apiKey": "k", "baseUrl": "https://api.infobip.com"})

    assert message_of(build(outbound(an_sms(sender="", text="x"), callback_url=URL), credentials)) == {
        "destinations": [{"to": "15005550100", "messageId": "att_01HX"}],
        "content": {"text": "x"},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"callback": None},  # no public address
        {"webhookToken": None},  # receipts could not be verified
        {"webhookToken": None, "webhookUser": "u", "webhookPassword": "password"},  # the account's subscription
    ],
)
def test_no_receipts_are_asked_for_that_could_not_be_believed(changes: dict[str, Any]) -> None:
    url = changes.pop("callback", URL)

    assert "webhooks" not in message_of(build(outbound(an_sms(), callback_url=url), account(**changes)))


def test_the_token_joins_the_callbacks_query() -> None:
    message = message_of(build(outbound(an_sms(), callback_url=f"{URL}?a=b"), CREDENTIALS))

    assert message["webhooks"]["delivery"]["url"] == f"{URL}?a=b&token={TOKEN}"


@pytest.mark.parametrize(("own", "expected"), [("ACME", "ACME"), (None, "OTHER")])
def test_the_sender_is_the_accounts_else_the_messages(own: str | None, expected: str) -> None:
    assert message_of(build(outbound(an_sms(sender="OTHER")), account(**{"from": own})))["sender"] == expected


@pytest.mark.parametrize("text", ["a" * 5000, "🙂" * 2000, "ń", "\x00", '"\\\r\n'])
def test_any_text_is_sent_as_it_is(text: str) -> None:
    assert message_of(build(outbound(an_sms(text=text)), CREDENTIALS))["content"] == {"text": text}


def test_a_retry_has_the_same_bytes_and_another_attempt_another_id() -> None:
    first, again, other = (build(outbound(an_sms(), reference=one), CREDENTIALS) for one in ("att_1", "att_1", "att_2"))

    assert first.content == again.content != other.content
    assert INFOBIP.idempotent


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("xyz1.api.infobip.com", "https://xyz1.api.infobip.com/sms/3/messages"),
        ("xyz1.api.infobip.com/", "https://xyz1.api.infobip.com/sms/3/messages"),
        ("https://api.infobip.com/", "https://api.infobip.com/sms/3/messages"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/sms/3/messages"),
    ],
)
def test_the_base_url_may_lack_its_scheme(address: str, expected: str) -> None:
    assert str(build(outbound(an_sms()), account(baseUrl=address)).url) == expected


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"apiKey": None}, "apiKey"),
        ({"apiKey": "a\r\nb"}, "apiKey"),
        ({"baseUrl": None}, "baseUrl"),
        ({"baseUrl": 7}, "baseUrl"),
        ({"baseUrl": "ftp://x"}, "baseUrl"),
        ({"baseUrl": "https://user:pass@x"}, "baseUrl"),
        ({"from": ""}, "from"),
        ({"webhookToken": "short"}, "webhookToken"),
        ({"webhookUser": "a:b", "webhookPassword": "password"}, "webhookUser"),
        ({"webhookUser": "u", "webhookPassword": "short"}, "webhookPassword"),
        ({"webhookUser": "u"}, "webhookPassword"),
        ({"webhookPassword": "password"}, "webhookUser"),
        ({"sender": "ACME"}, "sender"),
    ],
)
def test_credentials_that_cannot_work_are_refused_by_their_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        account(**fields)


@pytest.mark.parametrize("message", [outbound(an_email()), outbound(an_sms(text="half \ud83d"))])
def test_what_it_cannot_send_is_refused(message: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(message, CREDENTIALS)


# Responses


def answer(code: Any, group: Any, http: int = 200, **changes: Any) -> httpx.Response:
    status = {"groupId": group, "groupName": "X", "id": code, "name": "NAME", "description": "words"}
    entry = {"messageId": "att_42", "destination": "2348012345678", "details": {"messageCount": 1}, "status": status}
    return httpx.Response(http, json={"bulkId": "2034072219640523072", "messages": [entry | changes]})


@pytest.mark.parametrize(
    ("code", "group"),
    [
        *[(3, 1), (7, 1), (26, 1), (2, 3), (5, 3)],
        *[(0, 0), (999, 0), (999, 1), (999, 3)],  # new ids of the groups that stand for success
        (23, 5),  # a duplicate: an earlier call under our reference was taken
    ],
)
def test_a_message_that_was_taken_is_accepted(code: int, group: int) -> None:
    assert classify(answer(code, group)) == Accepted("att_42")


def test_version_2_answers_are_read_too() -> None:
    body = {"messages": [{"messageId": "att_42", "to": "234", "smsCount": 1, "status": {"groupId": 1, "id": 26}}]}

    assert classify(httpx.Response(200, json=body)) == Accepted("att_42")


NO_CREDIT = Declined(Reason.QUOTA, scope=Scope.ACCOUNT)
STATUSES: list[tuple[int, int, Refusal]] = [
    (4, 2, Declined(Reason.BLOCKED)),
    (9, 2, RecipientRejected(Reason.UNREACHABLE)),
    (31, 2, ProviderFault()),
    (15, 4, ProviderFault()),
    (29, 4, Unknown()),
    (87, 4, Declined(Reason.POLICY)),
    (87, 5, Declined(Reason.POLICY)),
    (6, 5, Declined(Reason.UNSUPPORTED)),
    (8, 5, RecipientRejected(Reason.INVALID_ADDRESS)),
    (10, 5, Declined(Reason.POLICY)),
    (11, 5, Declined(Reason.SENDER)),
    (12, 5, NO_CREDIT),
    (13, 5, Declined(Reason.SENDER)),
    (14, 5, RecipientRejected(Reason.BLOCKED)),
    (17, 5, NO_CREDIT),
    (18, 5, Declined(Reason.REPUTATION, scope=Scope.ACCOUNT)),
    (19, 5, Declined(Reason.UNSUPPORTED)),
    (20, 5, Throttled(retry_after=timedelta(hours=1), scope=Scope.RECIPIENT)),
    (21, 5, ProviderFault()),
    (24, 5, Declined(Reason.INVALID_CONTENT)),
    (25, 5, Declined(Reason.TOO_LARGE)),
    (51, 5, Declined(Reason.INVALID_CONTENT)),
    (52, 5, RecipientRejected(Reason.INVALID_ADDRESS)),
    (100, 2, ProviderFault()),
    (999, 2, Declined(Reason.OTHER)),
    (999, 4, ProviderFault()),
    (999, 5, ProviderFault()),
]


@pytest.mark.parametrize("message_id", ["att_42", None])
@pytest.mark.parametrize(("code", "group", "expected"), STATUSES)
def test_a_refused_message_is_inside_of_a_200(code: int, group: int, expected: Refusal, message_id: Any) -> None:
    assert classify(answer(code, group, messageId=message_id)) == replace(expected, detail="200 NAME words")


@pytest.mark.parametrize(
    "response",
    [
        *[httpx.Response(200, content=content) for content in (b"", b"{}", b"[]", b"<html>", b'{"messages":7}')],
        *[httpx.Response(200, json={"messages": [entry]}) for entry in (7, {}, {"messageId": "a"}, {"status": 1})],
        httpx.Response(200, json={"messages": []}),
        httpx.Response(200, json={"messages": [{"messageId": "a", "status": {"id": 26, "groupId": 1}}] * 2}),
        *[answer(26, 1, messageId=one) for one in (None, "", "a b", 7, ["a"], "a\x00")],
        answer(23, 5, messageId=None),
        *[answer(26, group) for group in (2, 4, 5, None, "1", True, 9)],  # success in a group that contradicts it
        *[answer(code, 1) for code in (None, "26", True, 26.0)],
        *[answer(26, 1, http) for http in (201, 202, 204, 302, 500)],
    ],
)  # fmt: skip
def test_what_is_not_the_documented_success_is_unknown(response: httpx.Response) -> None:
    assert isinstance(classify(response), Unknown)


REQUEST_ERRORS: list[tuple[int, str, str, type[Outcome]]] = [
    (400, "E400", "BAD_REQUEST", Declined),
    (401, "E401", "UNAUTHORIZED", AuthFailed),
    (403, "E403", "FORBIDDEN", AuthFailed),
    (404, "E404", "NOT_FOUND", AuthFailed),
    (429, "E429", "TOO_MANY_REQUESTS", Throttled),
    (500, "E500", "GENERAL_ERROR", Unknown),
]


@pytest.mark.parametrize(("status", "new", "old", "outcome"), REQUEST_ERRORS)
def test_a_refused_request_is_read_in_both_forms(status: int, new: str, old: str, outcome: type[Outcome]) -> None:
    third = {"errorCode": new, "description": "words", "action": "x", "violations": [], "resources": []}
    second = {"requestError": {"serviceException": {"messageId": old, "text": "words"}}}

    found = [classify(httpx.Response(status, json=body)) for body in (third, second)]

    assert [type(one) for one in found] == [outcome, outcome]
    assert [one.detail for one in found if not isinstance(one, Accepted)] == [
        f"{status} {new} words",
        f"{status} {old} words",
    ]


def test_the_violations_are_in_the_detail() -> None:
    violations = [{"property": "messages[0].content", "violation": "must not be null"}, "odd"]
    body = {"errorCode": "E400", "description": "Request cannot be processed.", "violations": violations}

    assert classify(httpx.Response(400, json=body)) == Declined(
        Reason.INVALID_CONTENT,
        "400 E400 Request cannot be processed. messages[0].content: must not be null None: None",
    )


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, Declined), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed), (429, Throttled)],
        *[(500, Unknown), (502, Unknown), (503, ProviderFault), (504, Unknown), (302, Unknown), (418, Unknown)],
    ],
)
@pytest.mark.parametrize(
    "body", ["", "<h1>words</h1>", "{}", '{"errorCode":7}', '{"requestError":[]}', "[1]", '{"violations":{"a":1}}']
)
def test_otherwise_the_status_decides(status: int, outcome: type[Outcome], body: str) -> None:
    assert type(classify(httpx.Response(status, text=body))) is outcome


def test_a_retry_after_is_used() -> None:
    assert classify(httpx.Response(429, headers={"retry-after": "7"}, json={"errorCode": "E429"})) == Throttled(
        "429 E429", timedelta(seconds=7)
    )


# Receipts


def report(code: Any = 5, group: Any = 3, error: Any = 0, *, permanent: Any = False, **changes: Any) -> dict[str, Any]:
    return {
        "bulkId": "2034072219640523072",
        "messageId": "att_42",
        "to": "2348012345678",
        "sender": "ACME",
        "sentAt": "2026-01-02T16:00:00.000+0100",
        "doneAt": "2026-01-02T16:00:04.120+0100",
        "messageCount": 1,
        "mccMnc": "62130",
        "price": {"pricePerMessage": 0.01, "currency": "EUR"},
        "status": {"groupId": group, "groupName": "X", "id": code, "name": "STATUS", "description": "x"},
        "error": {"groupId": 1, "id": error, "name": "EC_ERROR", "description": "Error text", "permanent": permanent},
        **changes,
    }


def with_token(request: WebhookRequest, key: str) -> WebhookRequest:
    return replace(request, url=f"{URL}?token={key}")


def with_password(request: WebhookRequest, key: str) -> WebhookRequest:
    pair = base64.b64encode(f"infobip:{key}".encode()).decode()
    return replace(request, headers={**request.headers, "authorization": f"Basic {pair}"})


BODY = json.dumps({"results": [report()]}).encode()
GENUINE = [
    Genuine(
        a_receipt(URL, {}, BODY),
        Parameter("token"),
        with_token,
        key=TOKEN,
        other_key=TOKEN + "x",
        secret="webhookToken",
        credentials={"webhookUser": None, "webhookPassword": None},
        covers_body=False,
    ),
    Genuine(
        a_receipt(URL, {}, BODY),
        Header("authorization"),
        with_password,
        key="p@sswörd",
        other_key="p@sswörd2",
        secret="webhookPassword",
        credentials={"webhookToken": None, "webhookUser": "infobip"},
        covers_body=False,
    ),
]


def events(*reports: Any, body: bytes | None = None) -> list[WebhookEvent]:
    content = json.dumps({"results": reports}).encode() if body is None else body
    return list(parse_webhook(a_receipt(f"{URL}?token={TOKEN}", {}, content), CREDENTIALS, {}).events)


def receipt_of(*arguments: Any, **changes: Any) -> DeliveryReceipt:
    (receipt,) = events(report(*arguments, **changes))
    assert isinstance(receipt, DeliveryReceipt)
    return receipt


def test_a_report_is_understood() -> None:
    one = report(9, 2, 1, permanent=True)

    assert events(one) == [
        DeliveryReceipt(
            receipt_id="att_42:9:1",
            type=EventType.BOUNCED,
            reference="att_42",
            provider_message_id="att_42",
            recipient="+2348012345678",
            occurred_at=datetime(2026, 1, 2, 15, 0, 4, 120000, tzinfo=UTC),
            reason=Reason.UNKNOWN_RECIPIENT,
            detail="STATUS EC_ERROR Error text",
            payload=json.dumps(one, separators=(",", ":")).encode(),
        )
    ]


def test_a_report_of_version_2_is_understood() -> None:
    one = report()
    one["from"], one["smsCount"] = one.pop("sender"), one.pop("messageCount")

    assert [event.type for event in events(one) if isinstance(event, DeliveryReceipt)] == [EventType.DELIVERED]


@pytest.mark.parametrize(
    ("code", "group", "kind", "reason"),
    [
        *[(code, 1, EventType.SENT, None) for code in (3, 7, 26)],
        (2, 3, EventType.SENT, None),
        (5, 3, EventType.DELIVERED, None),
        (4, 2, EventType.FAILED, Reason.BLOCKED),
        (9, 2, EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
        (31, 2, EventType.FAILED, Reason.NETWORK),
        (15, 4, EventType.SOFT_BOUNCE, Reason.EXPIRED),
        (29, 4, EventType.SOFT_BOUNCE, Reason.EXPIRED),
        (87, 4, EventType.FAILED, Reason.POLICY),
        (87, 5, EventType.FAILED, Reason.POLICY),
        (6, 5, EventType.FAILED, Reason.UNSUPPORTED),
        (8, 5, EventType.BOUNCED, Reason.INVALID_ADDRESS),
        (10, 5, EventType.BOUNCED, Reason.POLICY),
        (11, 5, EventType.FAILED, Reason.SENDER),
        (12, 5, EventType.FAILED, Reason.QUOTA),
        (13, 5, EventType.FAILED, Reason.SENDER),
        (14, 5, EventType.BOUNCED, Reason.BLOCKED),
        (17, 5, EventType.FAILED, Reason.QUOTA),
        (18, 5, EventType.FAILED, Reason.REPUTATION),
        (19, 5, EventType.FAILED, Reason.UNSUPPORTED),
        (20, 5, EventType.FAILED, Reason.QUOTA),
        (21, 5, EventType.FAILED, Reason.NETWORK),
        (24, 5, EventType.FAILED, Reason.INVALID_CONTENT),
        (25, 5, EventType.FAILED, Reason.TOO_LARGE),
        (51, 5, EventType.FAILED, Reason.INVALID_CONTENT),
        (52, 5, EventType.BOUNCED, Reason.INVALID_ADDRESS),
        (100, 2, EventType.FAILED, Reason.NETWORK),
        (999, 0, EventType.SENT, None),
        (999, 1, EventType.SENT, None),
        (999, 2, EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
        (999, 3, EventType.DELIVERED, None),
        (999, 4, EventType.SOFT_BOUNCE, Reason.EXPIRED),
        (999, 5, EventType.FAILED, Reason.OTHER),
    ],
)
def test_every_status_and_every_group(code: int, group: int, kind: EventType, reason: Reason | None) -> None:
    receipt = receipt_of(code, group)

    assert (receipt.type, receipt.reason) == (kind, reason)


@pytest.mark.parametrize(("code", "group"), [(4, 2), (9, 2), (999, 2)])
def test_a_permanent_error_of_an_undeliverable_message_is_a_bounce(code: int, group: int) -> None:
    assert receipt_of(code, group, 99999, permanent=True).type is EventType.BOUNCED
    assert receipt_of(code, group, 99999, permanent="yes").type is not EventType.BOUNCED


@pytest.mark.parametrize(("code", "group", "kind"), [(15, 4, EventType.SOFT_BOUNCE), (21, 5, EventType.FAILED)])
def test_a_permanent_error_changes_no_other_status(code: int, group: int, kind: EventType) -> None:
    assert receipt_of(code, group, 99999, permanent=True).type is kind


ERRORS: list[tuple[EventType, Reason, list[int]]] = [
    (EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT, [1, 351, 352, 568, 569, 3041, 2049]),
    (EventType.BOUNCED, Reason.DISABLED, [9, 11, 12, 629]),
    (EventType.BOUNCED, Reason.BLOCKED, [13, 604, 560, 566, 2050, 2052]),
    (EventType.SOFT_BOUNCE, Reason.UNREACHABLE, [5, 6, 27, 31, 33, 256, 581]),
    (EventType.FAILED, Reason.NETWORK, [32, 34, 255, 500, 502, 503, 504, 507, 508, 509, 1024, 1500, 1796]),
    (EventType.FAILED, Reason.SENDER, [368, 375, 2053, 562, 563, 564, 572, 594, 597, 488]),
    (EventType.FAILED, Reason.QUOTA, [433, 4099, 609, 541, 542, 4202, 4103, 4104, 630]),
    (EventType.FAILED, Reason.TOO_LARGE, [355]),
    (EventType.FAILED, Reason.SPAM, [607, 561, 608]),
    (EventType.FAILED, Reason.POLICY, [4106, 4120, 4146]),
    (EventType.SOFT_BOUNCE, Reason.EXPIRED, [4098, 4101, 811, 2048]),
    (EventType.FAILED, Reason.OTHER, [4100, 5492]),
]


@pytest.mark.parametrize(
    ("error", "kind", "reason"), [(error, kind, reason) for kind, reason, errors in ERRORS for error in errors]
)
@pytest.mark.parametrize(("code", "group"), [(9, 2), (15, 4), (6, 5), (999, 2)])
def test_the_error_says_more_than_the_status(
    error: int, kind: EventType, reason: Reason, code: int, group: int
) -> None:
    receipt = receipt_of(code, group, error)

    assert (receipt.type, receipt.reason) == (kind, reason)


@pytest.mark.parametrize("error", [32, 34, 255, 500, 502, 1500, 607, 4100, 5492])
@pytest.mark.parametrize(("code", "group"), [(29, 4), (999, 4)])
def test_a_text_that_perhaps_arrived_is_never_failed(code: int, group: int, error: int) -> None:
    """FAILED after an unknown outcome would send it again at once."""
    receipt = receipt_of(code, group, error, permanent=True)

    assert (receipt.type, receipt.reason) == (EventType.SOFT_BOUNCE, Reason.EXPIRED)


def test_an_error_of_the_recipient_says_more_than_no_report() -> None:
    assert receipt_of(29, 4, 1).type is EventType.BOUNCED


@pytest.mark.parametrize("error", [573, 603])
def test_an_opt_out_is_stored_beside_the_bounce(error: int) -> None:
    receipt, opt_out = events(report(14, 5, error))

    assert isinstance(receipt, DeliveryReceipt)
    assert (receipt.type, receipt.reason) == (EventType.BOUNCED, Reason.UNSUBSCRIBED)
    assert opt_out == OptOut("+2348012345678")


@pytest.mark.parametrize(("code", "group", "kind"), [(5, 3, EventType.DELIVERED), (26, 1, EventType.SENT)])
def test_an_error_beside_a_success_changes_nothing(code: int, group: int, kind: EventType) -> None:
    receipt = receipt_of(code, group, 1, permanent=True)

    assert (receipt.type, receipt.reason) == (kind, None)


def test_status_ids_and_error_ids_are_different_numbers() -> None:
    assert receipt_of(5, 3, 12).type is EventType.DELIVERED  # status 12 would be "no credit"
    assert receipt_of(12, 5, 5).reason is Reason.UNREACHABLE  # and status 5 "delivered"


def test_a_batch_is_read_whole_and_an_odd_entry_harms_no_other() -> None:
    odd = [7, None, {}, report(messageId=None), report(messageId="a b"), report(status=None), report(999, 9)]
    odd += [report(23, 5), report("5", "3")]

    found = events(report(26, 1), *odd, report(5, 3, messageId="att_43", error=None, doneAt="soon", to=None))

    assert [(one.reference, one.type) for one in found if isinstance(one, DeliveryReceipt)] == [
        ("att_42", EventType.SENT),
        ("att_43", EventType.DELIVERED),
    ]


@pytest.mark.parametrize("body", [b"", b"not json", b"\xff\xfe", b"[]", b"{}", b'{"results":{}}', b"<results/>"])
def test_a_body_without_reports_is_no_event(body: bytes) -> None:
    assert events(body=body) == []


# Which proof is asked for

BOTH = account(webhookUser="infobip", webhookPassword="password")


@pytest.mark.parametrize(
    ("url", "authorization", "believed"),
    [
        (f"{URL}?token={TOKEN}", None, True),
        (URL, "password", True),
        (f"{URL}?token=x", "password", True),
        (f"{URL}?token={TOKEN}", "other", False),
        (f"{URL}?token=x", None, False),
        (URL, None, False),
    ],
)
def test_with_both_configured_the_one_that_the_request_offers_decides(
    url: str, authorization: str | None, believed: bool
) -> None:
    request = a_receipt(url, {}, BODY)
    request = request if authorization is None else with_password(request, authorization)

    if believed:
        assert parse_webhook(request, BOTH, {}).receipts
    else:
        with pytest.raises(InvalidReceiptSignatureError):
            parse_webhook(request, BOTH, {})
