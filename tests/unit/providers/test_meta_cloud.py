"""provider-meta-cloud: the request, every row of the error table, the handshake, the signatures, the statuses."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from sluice.model.message import Whatsapp
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.meta_cloud import MetaCloudCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InboundMessage,
    InvalidReceiptSignatureError,
    UnsupportedMessageError,
    WebhookAnswer,
    WebhookEvent,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Header
from tests.unit.providers.whatsapp import (
    DELIVERED_BODY,
    PHONE,
    ROWS,
    TEMPLATE,
    WABA,
    WAMID,
    a_batch,
    a_change,
    a_status,
    a_whatsapp,
    an_inbound,
    like,
    refusal,
    refused,
    sent,
)

SAMPLE = Sample(
    {"accessToken": HIDDEN, "phoneNumberId": PHONE, "appSecret": HIDDEN, "verifyToken": HIDDEN},
    webhook_secret=HIDDEN,
)
SECRET = "unit-test-app-secret"
FIELDS: dict[str, Any] = {
    "accessToken": "EAAB-token",
    "phoneNumberId": PHONE,
    "businessAccountId": WABA,
    "appSecret": SECRET,
    "verifyToken": "a chosen word",
}
CREDENTIALS = MetaCloudCredentials.model_validate(FIELDS)
URL = "https://hooks.example.test/v1/receipts/prv_1"


def with_fields(**changes: Any) -> MetaCloudCredentials:
    return MetaCloudCredentials.model_validate({**FIELDS, **changes})


def body_of(request: httpx.Request) -> Any:
    return json.loads(request.content)


# The request


def test_a_text_is_in_the_request() -> None:
    request = build(a_whatsapp(), CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", f"https://graph.facebook.com/v23.0/{PHONE}/messages")
    assert request.headers["authorization"] == "Bearer EAAB-token"
    assert request.headers["content-type"] == "application/json"
    assert body_of(request) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+15557654321",
        "type": "text",
        "text": {"body": "Your order <A-17> ist unterwegs 🙂", "preview_url": False},
        "biz_opaque_callback_data": "msg_01",
    }


def test_a_template_is_in_the_request() -> None:
    parameters = [{"type": "text", "text": "Ann"}, {"type": "text", "text": "A-17 ünï 🙂"}]

    assert body_of(build(a_whatsapp(TEMPLATE), CREDENTIALS)) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+15557654321",
        "type": "template",
        "template": {
            "name": "order_update",
            "language": {"code": "en_US", "policy": "deterministic"},
            "components": [{"type": "body", "parameters": parameters}],
        },
        "biz_opaque_callback_data": "msg_01",
    }


def test_a_template_without_parameters_has_no_components() -> None:
    template = Whatsapp(template_name="hello_world", template_language="en_US")

    assert body_of(build(a_whatsapp(template), CREDENTIALS))["template"] == {
        "name": "hello_world",
        "language": {"code": "en_US", "policy": "deterministic"},
    }


def test_version_and_address_can_be_others() -> None:
    credentials = with_fields(apiVersion="v24.0", baseUrl="http://127.0.0.1:8081/")

    assert str(build(a_whatsapp(), credentials).url) == f"http://127.0.0.1:8081/v24.0/{PHONE}/messages"


def test_every_attempt_sends_the_same_bytes() -> None:
    first = build(a_whatsapp(TEMPLATE), CREDENTIALS)
    second = build(a_whatsapp(TEMPLATE, attempted_at=datetime(2027, 1, 1, tzinfo=UTC)), CREDENTIALS)

    assert (first.url, first.content) == (second.url, second.content)


@pytest.mark.parametrize(
    "message",
    [
        outbound(an_sms()),
        a_whatsapp(Whatsapp()),
        a_whatsapp(Whatsapp(template_name="x")),
        a_whatsapp(Whatsapp(text="\ud800")),
        a_whatsapp(Whatsapp(template_name="x", template_language="en", template_params=("\ud800",))),
        *(a_whatsapp(recipient=recipient) for recipient in ("", "+", "0155", "+1 555", "US.134912", "15557654321x")),
    ],
)
def test_what_it_cannot_carry_is_refused(message: Any) -> None:
    with pytest.raises(UnsupportedMessageError) as refused:
        build(message, CREDENTIALS)

    assert not message.recipient or message.recipient not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"accessToken": "a b"},
        {"accessToken": None},
        {"phoneNumberId": "+15557654321"},
        {"phoneNumberId": "../me"},
        {"businessAccountId": "x"},
        {"apiVersion": "23"},
        {"apiVersion": "v23.0/../x"},
        {"baseUrl": "ftp://x"},
        {"surprise": 1},
    ],
)
def test_credentials_that_cannot_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        with_fields(**fields)

    assert [found["loc"] for found in error.value.errors()] == [tuple(fields)]


# Responses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"messages": [{"id": WAMID, "message_status": "accepted"}]},
        {"messages": [{"id": WAMID, "message_status": "held_for_quality_assessment"}]},
        {"contacts": []},
    ],
)
def test_a_200_with_a_message_id_is_accepted_under_it(changes: dict[str, Any]) -> None:
    assert classify(httpx.Response(200, json=sent(**changes))) == Accepted(WAMID, receipt_ids=(WAMID,))


MALFORMED: list[Any] = [None, [], [None], [{}], [{"id": ""}], [{"id": 7}], {}]


@pytest.mark.parametrize(
    "body",
    [
        *(sent(messages=messages) for messages in MALFORMED),
        *({}, [], "x", refusal(131026), {**sent(), **refusal(131026)}, {"success": True}),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_2xx_that_is_not_the_documented_one_is_unknown(status: int, body: Any) -> None:
    assert isinstance(classify(httpx.Response(status, json=body)), Unknown)


@pytest.mark.parametrize("status", [302, 400, 500])
def test_a_message_id_in_another_status_is_no_acceptance(status: int) -> None:
    assert not isinstance(classify(httpx.Response(status, json=sent())), Accepted)


@pytest.mark.parametrize(("code", "status", "outcome"), ROWS)
def test_every_row_has_its_outcome(code: int, status: int, outcome: Outcome) -> None:
    found = classify(refused(status, refusal(code)))

    assert like(found, outcome)
    assert not isinstance(found, Accepted)
    assert found.detail == f"{status} (#{code}) Words More words"


@pytest.mark.parametrize("status", [400, 403, 429, 500])
@pytest.mark.parametrize(("code", "outcome"), [(code, outcome) for code, _, outcome in ROWS])
def test_the_code_decides_whatever_the_status(code: int, outcome: Outcome, status: int) -> None:
    assert like(classify(refused(status, refusal(code))), outcome)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"error_subcode": 33}, AuthFailed()),
        ({"message": "Unsupported post request. Object with ID '1' does not exist"}, AuthFailed()),
        (
            {
                "message": "(#100) Object with ID '2045' does not exist, cannot be loaded due to missing permissions, "
                "or does not support this operation"
            },
            AuthFailed(),
        ),
        ({"message": "(#100) Phone number ID 2045 does not exist"}, AuthFailed()),
        ({"error_subcode": 2494010}, Declined(Reason.INVALID_CONTENT)),
        ({"message": "(#100) Param template['name'] does not exist"}, Declined(Reason.INVALID_CONTENT)),
    ],
)
def test_code_100_about_the_number_id_is_the_accounts(changes: dict[str, Any], outcome: Outcome) -> None:
    assert like(classify(refused(400, refusal(100, **changes))), outcome)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Declined(Reason.INVALID_CONTENT)) for status in (400, 405, 413, 422)),
        *((status, AuthFailed()) for status in (401, 403, 404)),
        (429, Throttled()),
        *((status, ProviderFault()) for status in (500, 502, 503, 504)),
        (302, Unknown()),
    ],
)
@pytest.mark.parametrize("code", [999999, -1, None, "190", True, 1.5])
def test_an_unknown_code_falls_to_the_class_of_its_status(status: int, outcome: Outcome, code: Any) -> None:
    assert like(classify(refused(status, refusal(code))), outcome)


@pytest.mark.parametrize("status", [400, 401, 500])
def test_an_unknown_code_that_is_transient_is_the_providers_fault(status: int) -> None:
    assert isinstance(classify(refused(status, refusal(999999, is_transient=True))), ProviderFault)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, Declined), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed), (429, Throttled)],
        *[(500, Unknown), (502, Unknown), (503, Unknown), (504, Unknown), (301, Unknown)],
    ],
)
@pytest.mark.parametrize("text", ["", "<html>Bad Gateway</html>", "[]", '{"error":"x"}', '{"error":[]}', "\ud7ff"])
def test_without_metas_own_error_the_status_decides(status: int, outcome: type[Outcome], text: str) -> None:
    assert type(classify(refused(status, text))) is outcome


@pytest.mark.parametrize(
    ("error_data", "detail"),
    [
        ("plain text", "400 (#100) Words plain text"),
        (None, "400 (#100) Words"),
        ({}, "400 (#100) Words"),
        ([1], "400 (#100) Words"),
        ({"details": 7}, "400 (#100) Words"),
        ({"details": "(#100) Words"}, "400 (#100) Words"),
    ],
)
def test_the_details_may_have_any_form(error_data: Any, detail: str) -> None:
    found = classify(refused(400, refusal(100, error_data=error_data)))

    assert isinstance(found, Declined)
    assert found.detail == detail


def usage(minutes: object) -> str:
    return json.dumps({"1029": [{"type": "whatsapp", "call_count": 100, "estimated_time_to_regain_access": minutes}]})


@pytest.mark.parametrize(
    ("code", "headers", "seconds"),
    [
        (130429, {}, 5),
        (130429, {"Retry-After": "9"}, 9),
        (80007, {"x-business-use-case-usage": usage(3)}, 180),
        (80007, {"x-business-use-case-usage": usage(3), "Retry-After": "9"}, 180),
        (80007, {"x-business-use-case-usage": usage(10**9)}, 3600),
        *((80007, {"x-business-use-case-usage": text}, 60) for text in (usage(0), usage("3"), usage(True), usage(-1))),
        *((80007, {"x-business-use-case-usage": text}, 60) for text in ("", "x", "[]", '{"1":2}', '{"1":[3]}')),
        (131056, {"x-business-use-case-usage": usage(3)}, 6),  # the pair's own wait
        (131048, {"x-business-use-case-usage": usage(3)}, 3600),
    ],
)
def test_a_throttled_call_carries_the_wait(code: int, headers: dict[str, str], seconds: int) -> None:
    found = classify(refused(429, refusal(code), **headers))

    assert isinstance(found, Throttled)
    assert found.retry_after == timedelta(seconds=seconds)


# The handshake


def handshake(query: str, credentials: MetaCloudCredentials = CREDENTIALS, **headers: str) -> WebhookAnswer | None:
    request = a_receipt(f"{URL}?{query}", headers, b"", method="GET")
    return parse_webhook(request, credentials, {}).answer


GOOD = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=a+chosen+word"


def test_the_handshake_is_answered_with_the_challenge() -> None:
    assert handshake(GOOD) == WebhookAnswer(200, b"1158201444", "text/plain")


@pytest.mark.parametrize(
    "query",
    [
        "",
        GOOD.replace("a+chosen+word", ""),
        GOOD.replace("word", "wor"),
        GOOD.replace("word", "words"),
        GOOD.replace("word", "WORD"),
        GOOD.replace("hub.verify_token=a+chosen+word", "verify_token=a+chosen+word"),
        GOOD + "&hub.verify_token=a+chosen+word",
        "hub.verify_token=x&" + GOOD,
        GOOD.replace("subscribe", "unsubscribe"),
        GOOD.replace("hub.mode=subscribe&", ""),
        GOOD.replace("hub.challenge=1158201444&", ""),
        GOOD.replace("1158201444", ""),
        GOOD.replace("1158201444", "1%0d%0aSet-Cookie:x"),
        GOOD.replace("1158201444", "1" * 201),
    ],
)
def test_another_handshake_is_refused(query: str) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        handshake(query)


def test_without_a_verify_token_there_is_no_handshake() -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        handshake(GOOD.replace("a+chosen+word", ""), with_fields(verifyToken=None))


def test_a_get_delivers_no_receipt() -> None:
    request = a_receipt(URL, sign(DELIVERED_BODY), DELIVERED_BODY, method="GET")

    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(request, CREDENTIALS, {})


# Signatures. ``sign`` is written from the sheet's recipe.


def sign(body: bytes, key: str = SECRET) -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hmac.new(key.encode(), body, sha256).hexdigest()}


def sign_request(request: WebhookRequest, key: str) -> WebhookRequest:
    return replace(request, headers={**request.headers, **sign(request.body, key)})


def bare(signed: WebhookRequest) -> list[tuple[str, WebhookRequest]]:
    """Forms that only this header has."""
    value = signed.headers["x-hub-signature-256"]
    forms = {
        "without its scheme": value.removeprefix("sha256="),
        "as sha1": value.replace("sha256", "sha1"),
        "the scheme in capitals": value.replace("sha256", "SHA256"),
        "the digest in capitals": "sha256=" + value.removeprefix("sha256=").upper(),
        "the scheme twice": "sha256=" + value,
    }
    return [(name, replace(signed, headers={"x-hub-signature-256": form})) for name, form in forms.items()]


GENUINE = [
    Genuine(
        a_receipt(URL, {}, DELIVERED_BODY),
        Header("x-hub-signature-256"),
        sign_request,
        key=SECRET,
        other_key="another-app-secret",
        secret="appSecret",
        more=bare,
    )
]


@pytest.mark.parametrize(
    ("body", "digest", "events"),
    [
        (
            rb'{"text":"caf\u00e9 \/ ok"}',
            "6faeb31cbb8eaa7bdf522eaa680254c2ff2e37111f0edd2ffbece238f3fa3194",
            0,
        ),
        (DELIVERED_BODY, "8e56eae064a88f00e9618f8bdd70e35450786ab3128d6b3262981395a5f0707a", 1),
    ],
)
def test_the_vectors_of_the_fact_sheet_are_genuine(body: bytes, digest: str, events: int) -> None:
    request = a_receipt(URL, {"x-hub-signature-256": f"sha256={digest}"}, body)

    assert len(parse_webhook(request, CREDENTIALS, {}).events) == events


# Statuses

AT = datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC)


def events_of(payload: Any, credentials: MetaCloudCredentials = CREDENTIALS) -> list[WebhookEvent]:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return list(parse_webhook(a_receipt(URL, sign(body), body), credentials, {}).events)


def test_a_status_is_understood() -> None:
    failed = a_status(
        "failed",
        errors=[{"code": 131026, "title": "Undeliverable", "error_data": {"details": "not to +15557654321"}}],
    )

    (receipt,) = events_of(a_batch(a_change(failed)))

    assert receipt == DeliveryReceipt(
        receipt_id="failed:wamid.TEST1",
        type=EventType.FAILED,
        reference="msg_01",
        provider_message_id="wamid.TEST1",
        recipient="+15557654321",
        occurred_at=AT,
        reason=Reason.UNKNOWN_RECIPIENT,
        detail="failed 131026 Undeliverable not to <number>",
        payload=receipt.payload if isinstance(receipt, DeliveryReceipt) else b"",
    )
    assert isinstance(receipt, DeliveryReceipt)
    assert json.loads(receipt.payload) == failed


@pytest.mark.parametrize(
    ("status", "types"),
    [
        ("sent", [EventType.SENT]),
        ("delivered", [EventType.DELIVERED]),
        ("read", [EventType.DELIVERED, EventType.READ]),
        ("played", [EventType.DELIVERED, EventType.READ]),
        ("failed", [EventType.FAILED]),
        ("deleted", []),
        ("warning", []),
        ("SENT", []),
        ("", []),
        (None, []),
        (7, []),
    ],
)
def test_every_status_has_its_events(status: Any, types: list[EventType]) -> None:
    found = events_of(a_batch(a_change(a_status(status))))

    assert [event.type for event in found if isinstance(event, DeliveryReceipt)] == types


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        *(([{"code": code, "title": "x"}], getattr(outcome, "reason", None)) for code, _, outcome in ROWS),
        ([{"code": 999}], Reason.OTHER),
        ([{"code": "131026"}], Reason.OTHER),
        ([], Reason.OTHER),
        (None, Reason.OTHER),
        ("x", Reason.OTHER),
    ],
)
def test_a_failed_status_names_its_reason(errors: Any, reason: Reason | None) -> None:
    (receipt,) = events_of(a_batch(a_change(a_status("failed", errors=errors))))

    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.reason is not None
    assert reason in (None, receipt.reason)


@pytest.mark.parametrize(
    ("code", "reason"), [(190, Reason.CREDENTIALS), (130429, Reason.QUOTA), (131000, Reason.NETWORK)]
)
def test_a_status_about_the_account_names_a_reason_too(code: int, reason: Reason) -> None:
    (receipt,) = events_of(a_batch(a_change(a_status("failed", errors=[{"code": code}]))))

    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.reason is reason


def test_a_status_without_the_reference_has_the_id() -> None:
    status = a_status("failed")
    del status["biz_opaque_callback_data"], status["recipient_id"], status["timestamp"]

    (receipt,) = events_of(a_batch(a_change(status)))

    assert isinstance(receipt, DeliveryReceipt)
    assert (receipt.reference, receipt.provider_message_id) == (None, "wamid.TEST1")
    assert (receipt.recipient, receipt.occurred_at) == (None, None)


def test_a_batch_has_statuses_at_every_level() -> None:
    batch = a_batch(a_change(a_status(id="1"), a_status(id="2")), a_change(a_status(id="3")))
    batch["entry"] += a_batch(a_change(a_status(id="4")))["entry"]

    found = events_of(batch)

    assert [event.provider_message_id for event in found if isinstance(event, DeliveryReceipt)] == ["1", "2", "3", "4"]


def test_repeats_are_equal_and_later_states_are_not() -> None:
    ids = [
        event.receipt_id
        for status in ("delivered", "delivered", "read")
        for event in events_of(a_batch(a_change(a_status(status))))
        if isinstance(event, DeliveryReceipt)
    ]

    assert ids == ["delivered:wamid.TEST1"] * 3 + ["read:wamid.TEST1"]


@pytest.mark.parametrize(
    "batch",
    [
        a_batch(a_change(a_status(), phone="2046")),
        a_batch(a_change(a_status(), metadata=None)),
        a_batch(a_change(a_status(), metadata={})),
        a_batch(a_change(a_status()), waba="1030"),
        a_batch({**a_change(a_status()), "field": "account_update"}),
        a_batch({"field": "messages", "value": None}),
        a_batch(a_change(None, 7, "x", {}, a_status(id=None), a_status(id=7), a_status(id=""))),
        a_batch(a_change(errors=[{"code": 131000}])),
        a_batch(None, 7),
        {"object": "whatsapp_business_account"},
        {"entry": {"changes": 1}},
        {"entry": [None, {"id": WABA, "changes": "x"}]},
        [],
        b"not json",
        b"\xff",
        b'{"entry":' * 2000,
    ],
)
def test_what_is_not_a_status_of_this_number_is_no_event(batch: Any) -> None:
    assert events_of(batch) == []


def test_a_status_nested_too_deeply_to_be_kept_is_still_a_receipt() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]

    (receipt,) = events_of(a_batch(a_change(a_status(pricing=deep))))

    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.payload == b""


def test_without_the_business_accounts_id_the_number_alone_decides() -> None:
    credentials = with_fields(businessAccountId=None)

    assert len(events_of(a_batch(a_change(a_status()), waba="77"), credentials)) == 1
    assert events_of(a_batch(a_change(a_status(), phone="2046"), waba="77"), credentials) == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (an_inbound(), InboundMessage("wamid.IN1", "+15557654321", "STOP 🙂", "+15550001111", AT)),
        (an_inbound(type="image", text=None), InboundMessage("wamid.IN1", "+15557654321", "", "+15550001111", AT)),
        (an_inbound(timestamp="soon"), InboundMessage("wamid.IN1", "+15557654321", "STOP 🙂", "+15550001111", None)),
        (an_inbound(id=None), None),
        (an_inbound(**{"from": None}), None),
        ("x", None),
    ],
)
def test_an_inbound_message_is_passed_on(message: Any, expected: InboundMessage | None) -> None:
    assert events_of(a_batch(a_change(messages=[message]))) == ([] if expected is None else [expected])
