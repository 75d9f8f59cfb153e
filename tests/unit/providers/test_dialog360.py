"""provider-360dialog: the request, both layers of errors, and webhooks with a token or a partner's signature."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

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
from sluice.providers.adapters.dialog360 import Dialog360Credentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InboundMessage,
    InvalidReceiptSignatureError,
    UnsupportedMessageError,
    WebhookEvent,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Header, Parameter
from tests.unit.providers.whatsapp import (
    DELIVERED_BODY,
    ROWS,
    TEMPLATE,
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

SAMPLE = Sample({"apiKey": HIDDEN, "webhookToken": HIDDEN}, webhook_secret=HIDDEN)
TOKEN = "unguessable-token-of-the-url"
SECRET = "unit-test-platform-secret"
CREDENTIALS = Dialog360Credentials.model_validate({"apiKey": "d360-key", "webhookToken": TOKEN})
PARTNER = Dialog360Credentials.model_validate({"apiKey": "d360-key", "platformSecret": SECRET})
BOTH = Dialog360Credentials.model_validate({"apiKey": "k", "platformSecret": SECRET, "webhookToken": TOKEN})
URL = "https://hooks.example.test/v1/receipts/prv_1"

# The request


def test_a_template_is_in_the_request() -> None:
    request = build(a_whatsapp(TEMPLATE), CREDENTIALS)

    parameters = [{"type": "text", "text": "Ann"}, {"type": "text", "text": "A-17 ünï 🙂"}]
    assert (request.method, str(request.url)) == ("POST", "https://waba-v2.360dialog.io/messages")
    assert request.headers["D360-API-KEY"] == "d360-key"
    assert "authorization" not in request.headers
    assert json.loads(request.content) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "15557654321",
        "type": "template",
        "template": {
            "name": "order_update",
            "language": {"code": "en_US", "policy": "deterministic"},
            "components": [{"type": "body", "parameters": parameters}],
        },
        "biz_opaque_callback_data": "msg_01",
    }


def test_a_text_is_in_the_request() -> None:
    body = json.loads(build(a_whatsapp(Whatsapp(text="Grüße 🙂")), CREDENTIALS).content)

    assert (body["type"], body["text"]) == ("text", {"body": "Grüße 🙂", "preview_url": False})


def test_the_address_can_be_another() -> None:
    credentials = CREDENTIALS.model_copy(update={"base_url": "https://waba-sandbox.360dialog.io/v1/"})

    assert str(build(a_whatsapp(), credentials).url) == "https://waba-sandbox.360dialog.io/v1/messages"


@pytest.mark.parametrize(
    "message",
    [outbound(an_sms()), a_whatsapp(Whatsapp()), a_whatsapp(Whatsapp(text="\ud800")), a_whatsapp(recipient="x")],
)
def test_what_it_cannot_carry_is_refused(message: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(message, CREDENTIALS)


@pytest.mark.parametrize(
    "fields",
    [{"apiKey": "a b"}, {"apiKey": None}, {"webhookToken": "short"}, {"webhookToken": "with a blank in it"}, {"x": 1}],
)
def test_credentials_that_cannot_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        Dialog360Credentials.model_validate({"apiKey": "k", **fields})

    assert [found["loc"] for found in error.value.errors()] == [tuple(fields)]


# Responses


@pytest.mark.parametrize("status", [200, 201])
def test_a_2xx_with_a_message_id_is_accepted_under_it(status: int) -> None:
    assert classify(httpx.Response(status, json=sent())) == Accepted(WAMID, receipt_ids=(WAMID,))


@pytest.mark.parametrize("body", [{}, [], sent(messages=[]), sent(messages=None), refusal(100), {"meta": {}}])
@pytest.mark.parametrize("status", [200, 201])
def test_a_2xx_that_is_not_the_documented_one_is_unknown(status: int, body: Any) -> None:
    assert isinstance(classify(httpx.Response(status, json=body)), Unknown)


@pytest.mark.parametrize(("code", "status", "outcome"), ROWS)
def test_metas_errors_have_metas_outcomes(code: int, status: int, outcome: Outcome) -> None:
    assert like(classify(refused(status, refusal(code))), outcome)


OWN: list[tuple[int, str, Outcome]] = [
    (400, "Your access to the WhatsApp API has been disabled", AuthFailed()),
    (400, "You have exceeded the endpoint rate limit", Throttled(retry_after=timedelta(seconds=2))),
    (400, "Blocked due to lack of payment", Declined(Reason.QUOTA, scope=Scope.ACCOUNT)),
    (401, "Invalid api_key", AuthFailed()),
    (401, "Invalid API key", AuthFailed()),
    (403, "The endpoint is blocked", AuthFailed()),
    (403, "Permission denied for partner", AuthFailed()),
    (500, "Internal server error", ProviderFault()),
    (502, "WhatsApp for Business API not available", ProviderFault()),
    (400, "something new", Declined(Reason.INVALID_CONTENT)),
    (404, "something new", Declined(Reason.INVALID_CONTENT)),
    (422, "something new", Declined(Reason.INVALID_CONTENT)),
    (402, "something new", AuthFailed()),
    (429, "something new", Throttled()),
]


@pytest.mark.parametrize(("status", "text", "outcome"), OWN)
@pytest.mark.parametrize("spelling", [str, str.upper])
@pytest.mark.parametrize(
    "form",
    [
        lambda status, text: {"meta": {"http_code": status, "developer_message": text, "success": False}},
        lambda status, text: {"error": {"message": text}},
        lambda status, text: {"error": {"message": text, "code": 77}},
        lambda status, text: {"detail": text},
    ],
)
def test_its_own_errors_are_told_by_their_words(
    status: int, text: str, outcome: Outcome, spelling: Any, form: Any
) -> None:
    found = classify(refused(status, form(status, spelling(text))))

    assert like(found, outcome)
    assert not isinstance(found, Accepted)
    assert spelling(text) in found.detail


@pytest.mark.parametrize(("status", "text", "outcome"), [row for row in OWN if row[0] != 500])
def test_plain_text_is_understood_too(status: int, text: str, outcome: Outcome) -> None:
    assert like(classify(refused(status, text)), outcome)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (500, Unknown),
        (502, Unknown),
        (503, Unknown),
        (504, Unknown),
        (302, Unknown),
        (400, Declined),
        (401, AuthFailed),
    ],
)
@pytest.mark.parametrize("text", ["", "<html>Internal Server Error</html>", "[]", "\x00"])
def test_without_a_known_body_the_status_decides(status: int, outcome: type[Outcome], text: str) -> None:
    assert type(classify(refused(status, text))) is outcome


def test_a_gateway_timeout_in_json_is_unknown() -> None:
    assert isinstance(classify(refused(504, {"detail": "timeout"})), Unknown)


def test_a_wait_in_the_header_is_honoured() -> None:
    found = classify(refused(400, {"detail": "exceeded the endpoint rate limit"}, **{"Retry-After": "9"}))

    assert isinstance(found, Throttled)
    assert found.retry_after == timedelta(seconds=9)


def test_a_known_code_comes_before_the_words() -> None:
    found = classify(refused(400, refusal(131026, message="lack of payment")))

    assert isinstance(found, RecipientRejected)


# Webhooks


def with_token(request: WebhookRequest, key: str) -> WebhookRequest:
    return Parameter("token").write(request, key)


def sign(body: bytes, key: str = SECRET) -> dict[str, str]:
    return {"x-360dialog-signature": hmac.new(key.encode(), body, sha256).hexdigest()}


def sign_request(request: WebhookRequest, key: str) -> WebhookRequest:
    return replace(request, headers={**request.headers, **sign(request.body, key)})


def sign_in_base64(request: WebhookRequest, key: str) -> WebhookRequest:
    digest = base64.b64encode(hmac.new(key.encode(), request.body, sha256).digest()).decode()
    return replace(request, headers={**request.headers, "x-360dialog-signature": digest})


_SIGNED = Genuine(
    a_receipt(URL, {}, DELIVERED_BODY),
    Header("x-360dialog-signature"),
    sign_request,
    key=SECRET,
    other_key="another-platform-secret",
    secret="platformSecret",
    credentials={"webhookToken": None},
    also_genuine=frozenset({"HMAC-sha256 in base64", "HMAC-sha256 in hex"}),
)
GENUINE = [
    Genuine(
        a_receipt(URL, {}, DELIVERED_BODY),
        Parameter("token"),
        with_token,
        key=TOKEN,
        other_key="another-token-of-the-url",
        secret="webhookToken",
        covers_body=False,
    ),
    _SIGNED,
    replace(_SIGNED, sign=sign_in_base64),
]


@pytest.mark.parametrize(
    "signature",
    [
        "f0f4d38766f6472a5e2d53bdc6d7c1f037cc08750e9ca24bb2c47c1861ab1084",
        "sha256=f0f4d38766f6472a5e2d53bdc6d7c1f037cc08750e9ca24bb2c47c1861ab1084",
        "8PTTh2b2RypeLVO9xtfB8DfMCHUOnKJLssR8GGGrEIQ=",
        "sha256=8PTTh2b2RypeLVO9xtfB8DfMCHUOnKJLssR8GGGrEIQ=",
    ],
)
def test_the_vectors_of_the_fact_sheet_are_genuine(signature: str) -> None:
    request = a_receipt(URL, {"x-360dialog-signature": signature}, DELIVERED_BODY)

    assert len(parse_webhook(request, PARTNER, {}).events) == 1


@pytest.mark.parametrize(
    ("url", "headers", "credentials"),
    [
        (URL, sign(DELIVERED_BODY), BOTH),
        (f"{URL}?token={TOKEN}", {}, BOTH),
        (f"{URL}?token={TOKEN}", {}, PARTNER),
        (URL, sign(DELIVERED_BODY), CREDENTIALS),
        (f"{URL}?token={TOKEN}", sign(DELIVERED_BODY, "x"), BOTH),
        (f"{URL}?token=x", sign(DELIVERED_BODY), BOTH),
        (f"{URL}?token={TOKEN}", sign(DELIVERED_BODY), Dialog360Credentials.model_validate({"apiKey": "k"})),
    ],
)
def test_everything_that_is_configured_has_to_match(
    url: str, headers: dict[str, str], credentials: Dialog360Credentials
) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(a_receipt(url, headers, DELIVERED_BODY), credentials, {})


def test_a_token_and_a_signature_together_are_genuine() -> None:
    request = a_receipt(f"{URL}?token={TOKEN}", sign(DELIVERED_BODY), DELIVERED_BODY)

    assert len(parse_webhook(request, BOTH, {}).events) == 1


def events_of(payload: Any) -> list[WebhookEvent]:
    request = a_receipt(f"{URL}?token={TOKEN}", {}, json.dumps(payload).encode())
    return list(parse_webhook(request, CREDENTIALS, {}).events)


def test_statuses_and_inbound_messages_are_read() -> None:
    failed = a_status("failed", id="wamid.2", errors=[{"code": 131050, "title": "Stopped"}])
    events = events_of(a_batch(a_change(a_status("sent"), failed), a_change(messages=[an_inbound()], phone="7")))

    assert [(event.type, event.reason) for event in events if isinstance(event, DeliveryReceipt)] == [
        (EventType.SENT, None),
        (EventType.FAILED, Reason.UNSUBSCRIBED),
    ]
    assert [event.text for event in events if isinstance(event, InboundMessage)] == ["STOP 🙂"]


def test_undelivered_is_another_word_for_failed() -> None:
    undelivered = a_status("undelivered", errors=[{"code": 131050, "title": "Stopped"}])

    (event,) = events_of(a_batch(a_change(undelivered)))

    assert isinstance(event, DeliveryReceipt)
    assert (event.type, event.reason) == (EventType.FAILED, Reason.UNSUBSCRIBED)
    # A provider that sends both words says one thing.
    (repeated,) = events_of(a_batch(a_change(a_status("failed"))))
    assert isinstance(repeated, DeliveryReceipt)
    assert repeated.receipt_id == event.receipt_id


@pytest.mark.parametrize("payload", [{}, [], {"entry": []}, {"event": "test"}, a_batch(a_change())])
def test_the_hubs_test_button_is_no_event(payload: Any) -> None:
    assert events_of(payload) == []
