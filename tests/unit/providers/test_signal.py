"""provider-signal: the request, every text and reason of the error tables, and notifications with their forgeries."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from sluice.model.message import ChatMessage
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.signal import SIGNAL, SignalCredentials, build, classify, parse_webhook
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
from tests.unit.providers.forgeries import Genuine, Parameter
from tests.unit.providers.whatsapp import like

OURS, THEIRS = "+4915550000001", "+4915550000002"
ACI = "2f6c3f5e-8f0c-4d0b-9a38-0d3c1f5b7a11"
SAMPLE = Sample(
    {
        "baseUrl": "http://127.0.0.1:8080",
        "number": OURS,
        "mode": "native",
        "basicAuthUser": "sluice",
        "basicAuthPassword": HIDDEN,
        "webhookToken": HIDDEN,
    },
    webhook_secret=HIDDEN,
)
TOKEN = "unguessable-token-of-the-url"
FIELDS: dict[str, Any] = {"baseUrl": "http://signal-api:8080", "number": OURS, "webhookToken": TOKEN}
CREDENTIALS = SignalCredentials.model_validate(FIELDS)
URL = "https://hooks.example.test/v1/receipts/prv_1"


def a_text(text: str = "Order *A-17* shipped 🙂", **changes: Any) -> Any:
    return outbound(ChatMessage(channel="signal", text=text), **{"recipient": THEIRS, **changes})


# The request


def test_the_text_is_in_the_request() -> None:
    request = build(a_text(), CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", "http://signal-api:8080/v2/send")
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers
    assert json.loads(request.content) == {
        "number": OURS,
        "recipients": [THEIRS],
        "message": "Order *A-17* shipped 🙂",
        "text_mode": "normal",
    }


@pytest.mark.parametrize(
    ("fields", "seconds"), [({}, 60), ({"mode": "json-rpc"}, 60), ({"mode": "normal"}, 130), ({"mode": "native"}, 130)]
)
def test_a_call_may_take_as_long_as_the_container_does(fields: dict[str, Any], seconds: float) -> None:
    assert SIGNAL.http_timeout is not None
    assert SIGNAL.http_timeout(SignalCredentials.model_validate({**FIELDS, **fields})) == seconds


@pytest.mark.parametrize("recipient", [THEIRS, ACI, "group.QUJDRA==", "ann.07"])
def test_every_form_of_a_recipient_is_passed_on(recipient: str) -> None:
    assert json.loads(build(a_text(recipient=recipient), CREDENTIALS).content)["recipients"] == [recipient]


def test_a_proxy_can_ask_for_a_password() -> None:
    fields = {"baseUrl": "https://signal.example.test/api/", "basicAuthUser": "u", "basicAuthPassword": "pä:ss"}

    request = build(a_text(), SignalCredentials.model_validate({**FIELDS, **fields}))

    assert str(request.url) == "https://signal.example.test/api/v2/send"
    assert httpx.BasicAuth("u", "pä:ss")._auth_header == request.headers["authorization"]


def test_every_attempt_sends_the_same_bytes() -> None:
    first, second = build(a_text(), CREDENTIALS), build(a_text(reference="att_2"), CREDENTIALS)

    assert (first.url, first.content) == (second.url, second.content)


@pytest.mark.parametrize(
    "content", [an_sms(), ChatMessage(channel="telegram", text="x"), ChatMessage(channel="signal", text="\ud800")]
)
def test_what_it_cannot_carry_is_refused(content: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(outbound(content, recipient=THEIRS), CREDENTIALS)


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"baseUrl": None}, ("baseUrl",)),
        ({"baseUrl": "http://u:p@x"}, ("baseUrl",)),
        ({"number": "015550000001"}, ("number",)),
        ({"number": "+49 155"}, ("number",)),
        ({"basicAuthUser": "u"}, ()),
        ({"basicAuthPassword": "p"}, ()),
        ({"basicAuthUser": "a:b", "basicAuthPassword": "p"}, ("basicAuthUser",)),
        ({"webhookToken": "short"}, ("webhookToken",)),
        ({"surprise": 1}, ("surprise",)),
    ],
)
def test_credentials_that_cannot_work_are_refused(fields: dict[str, Any], location: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as error:
        SignalCredentials.model_validate({**FIELDS, **fields})

    assert [found["loc"] for found in error.value.errors()] == [location]


# Responses

SENT = {"timestamp": "1760000000123"}


@pytest.mark.parametrize(
    "body",
    [SENT, [SENT], [{**SENT, "errors": None}], [{**SENT, "errors": {}}], [{**SENT, "errors": {"recipients": []}}]],
)
def test_a_201_with_a_timestamp_is_accepted_under_it(body: Any) -> None:
    assert classify(httpx.Response(201, json=body)) == Accepted("1760000000123", receipt_ids=("1760000000123",))


@pytest.mark.parametrize(
    "body",
    [
        *({"timestamp": odd} for odd in (None, "", 1760000000123, "soon", "-1", "1" * 17, True)),
        *({}, [], [None], [SENT, SENT], "x", None, {"error": "Failed to send message"}),
    ],
)
def test_a_201_that_is_not_the_documented_one_is_unknown(body: Any) -> None:
    assert isinstance(classify(httpx.Response(201, json=body)), Unknown)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_another_2xx_is_unknown(status: int) -> None:
    assert isinstance(classify(httpx.Response(status, json=SENT)), Unknown)


UNREGISTERED = RecipientRejected(Reason.UNKNOWN_RECIPIENT)
UNTRUSTED = Declined(Reason.POLICY)
INVALID = Declined(Reason.INVALID_CONTENT)
MINUTE, HOUR = Throttled(retry_after=timedelta(minutes=1)), Throttled(retry_after=timedelta(hours=1))
REASONS: list[tuple[Any, Outcome]] = [
    ("NETWORK_FAILURE", ProviderFault()),
    ("UNREGISTERED_FAILURE", UNREGISTERED),
    ("IDENTITY_FAILURE", UNTRUSTED),
    ("RATE_LIMIT_FAILURE", MINUTE),
    ("INVALID_PRE_KEY_FAILURE", ProviderFault()),
    ("SOMETHING_NEW", ProviderFault()),
    (None, ProviderFault()),
    (7, ProviderFault()),
]


@pytest.mark.parametrize(("reason", "outcome"), REASONS)
def test_a_recipient_that_failed_is_no_acceptance(reason: Any, outcome: Outcome) -> None:
    failed = {"number": THEIRS, "reason": reason}

    found = classify(httpx.Response(201, json=[{**SENT, "errors": {"recipients": [failed]}}]))

    assert like(found, outcome)
    assert not isinstance(found, Accepted)
    assert found.detail == f"201 {reason if isinstance(reason, str) else 'an error without a reason'}"


@pytest.mark.parametrize("failed", ["x", [None], [[]], {"number": THEIRS}])
def test_a_list_of_failures_in_another_form_is_no_acceptance(failed: Any) -> None:
    assert isinstance(classify(httpx.Response(201, json=[{**SENT, "errors": {"recipients": failed}}])), ProviderFault)


# Every text of the sheet.
TEXTS: list[tuple[str, Outcome]] = [
    (f'CAPTCHA proof required for sending to "{THEIRS}", available options "d8e1"', HOUR),
    ("CAPTCHA proof required, wait 120 seconds", Throttled(retry_after=timedelta(minutes=2))),
    ("Rate limit failure", MINUTE),
    ("RATE_LIMIT_FAILURE", MINUTE),
    ("Rate limit failure: retry after 90 seconds", Throttled(retry_after=timedelta(seconds=90))),
    ('{"type":"RATE_LIMIT_FAILURE","retryAfterSeconds":300}', Throttled(retry_after=timedelta(minutes=5))),
    ('{"type":"RATE_LIMIT_FAILURE","retryAfterSeconds": 999999999}', HOUR),
    (f'Failed to send message: Unregistered user "{THEIRS}"', UNREGISTERED),
    ("UNREGISTERED_FAILURE", UNREGISTERED),
    (f"{THEIRS} is not registered", UNREGISTERED),
    (f"User {OURS} is not registered.\n", AuthFailed()),
    ("Failed to send message due to untrusted recipient keys", UNTRUSTED),
    (f'Untrusted Identity for "{THEIRS}"', UNTRUSTED),
    ("untrusted identities", UNTRUSTED),
    ("IDENTITY_FAILURE", UNTRUSTED),
    (f'Network failure for "{THEIRS}"', ProviderFault()),
    ("NETWORK_FAILURE", ProviderFault()),
    ("INVALID_PRE_KEY_FAILURE", ProviderFault()),
    ("No prekeys available", ProviderFault()),
    ("Failed to send message", ProviderFault()),
    ("Invalid group id", RecipientRejected(Reason.INVALID_ADDRESS)),
    ("Invalid identifier ann", RecipientRejected(Reason.INVALID_ADDRESS)),
    ("Invalid Signal group size", INVALID),
    ("Signal Messenger Groups and phone numbers cannot be specified together in one request!", INVALID),
    ("A signal message cannot be sent to more than one group at once!", INVALID),
    ("Couldn't process request - please provide at least one recipient", INVALID),
    ("Couldn't process request - please provide a valid number", INVALID),
    ("Couldn't process request - invalid request", INVALID),
    ("Sending empty message is not allowed", INVALID),
    ("Please update your profile first", AuthFailed()),
    ("Specified account does not exist", AuthFailed()),
    ("not a registered/linked account", AuthFailed()),
    ("Authorization failed! (403)", AuthFailed()),
    ("process killed as timeout reached", Unknown()),
    ("write unix @: broken pipe", Unknown()),
    ("unexpected EOF", Unknown()),
    ("dial tcp 127.0.0.1:6001: connect: connection refused", ProviderFault()),
    ("No JsonRpc2Client registered for number", ProviderFault()),
    ("something new", ProviderFault()),
]


@pytest.mark.parametrize(("text", "outcome"), TEXTS)
@pytest.mark.parametrize("spelling", [str, str.upper])
def test_the_words_of_a_400_decide(text: str, outcome: Outcome, spelling: Any) -> None:
    found = classify(httpx.Response(400, json={"error": spelling(text)}))

    assert like(found, outcome)
    assert not isinstance(found, Accepted)
    assert found.detail == f"400 {spelling(text)}"


LIMITED = "Failed to send message due to rate limiting"


@pytest.mark.parametrize(
    ("tokens", "outcome"),
    [
        (["d8e1c1f2"], HOUR),
        (["", "d8e1c1f2"], HOUR),
        ([""], Unknown()),
        ([], Unknown()),
        (None, Unknown()),
        ("d8e1c1f2", Unknown()),
        ([7], Unknown()),
    ],
)
def test_a_rate_without_a_challenge_may_have_been_a_delivery(tokens: Any, outcome: Outcome) -> None:
    body = {"error": LIMITED, "account": OURS, "challenge_tokens": tokens}

    assert like(classify(httpx.Response(429, json=body)), outcome)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, ProviderFault), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed), (413, Declined)],
        *[(429, Throttled), (502, ProviderFault), (503, ProviderFault), (500, Unknown), (504, Unknown), (302, Unknown)],
    ],
)
@pytest.mark.parametrize("content", [b"", b"<html>Bad Gateway</html>", b"[]", b'{"error":7}', b'{"error":"new"}'])
def test_without_known_words_the_status_decides(status: int, outcome: type[Outcome], content: bytes) -> None:
    assert type(classify(httpx.Response(status, content=content))) is outcome


# Notifications


def with_token(request: WebhookRequest, key: str) -> WebhookRequest:
    return Parameter("token").write(request, key)


def an_envelope(**changes: Any) -> dict[str, Any]:
    return {
        "source": THEIRS,
        "sourceNumber": THEIRS,
        "sourceUuid": ACI,
        "sourceName": "Ann",
        "sourceDevice": 1,
        "timestamp": 1760000005000,
        "serverReceivedTimestamp": 1760000005100,
        "serverDeliveredTimestamp": 1760000005200,
    } | changes


def a_receipt_message(*timestamps: Any, **flags: Any) -> dict[str, Any]:
    defaults = {"when": 1760000005000, "isDelivery": True, "isRead": False, "isViewed": False}
    return {**defaults, "timestamps": list(timestamps or (1760000000123,)), **flags}


def a_notification(envelope: Any, **changes: Any) -> dict[str, Any]:
    params = {"envelope": envelope, "account": OURS} | changes
    return {"jsonrpc": "2.0", "method": "receive", "params": params}


def reply_to(payload: Any) -> Any:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return parse_webhook(a_receipt(f"{URL}?token={TOKEN}", {}, body), CREDENTIALS, {})


def events_of(payload: Any) -> list[WebhookEvent]:
    return list(reply_to(payload).events)


DELIVERED = a_notification(an_envelope(receiptMessage=a_receipt_message()))
AT = datetime(2025, 10, 9, 8, 53, 25, tzinfo=UTC)
GENUINE = [
    Genuine(
        a_receipt(URL, {}, json.dumps(DELIVERED).encode()),
        Parameter("token"),
        with_token,
        key=TOKEN,
        other_key="another-token-of-the-url",
        secret="webhookToken",
        covers_body=False,
    )
]


@pytest.mark.parametrize(
    "payload",
    [
        DELIVERED,
        DELIVERED["params"],
        {"jsonrpc": "2.0", "method": "receive", "params": {"subscription": 0, "result": DELIVERED["params"]}},
    ],
)
def test_a_receipt_is_understood_in_every_frame(payload: Any) -> None:
    assert events_of(payload) == [
        DeliveryReceipt(
            receipt_id="1760000000123:delivered",
            type=EventType.DELIVERED,
            provider_message_id="1760000000123",
            recipient=THEIRS,
            occurred_at=AT,
        )
    ]


def test_the_container_gets_the_answer_that_it_expects() -> None:
    assert reply_to(DELIVERED).answer == WebhookAnswer(200)


@pytest.mark.parametrize(
    ("flags", "types"),
    [
        ({}, [EventType.DELIVERED]),
        ({"isDelivery": False, "isRead": True}, [EventType.DELIVERED, EventType.READ]),
        ({"isDelivery": False, "isViewed": True}, [EventType.DELIVERED, EventType.READ]),
        ({"isRead": True, "isViewed": True}, [EventType.DELIVERED, EventType.READ]),
        ({"isDelivery": False}, []),
        ({"isDelivery": 1}, []),
        ({"isDelivery": "true"}, []),
    ],
)
def test_every_kind_of_receipt_has_its_events(flags: dict[str, Any], types: list[EventType]) -> None:
    found = events_of(a_notification(an_envelope(receiptMessage=a_receipt_message(**flags))))

    assert [event.type for event in found if isinstance(event, DeliveryReceipt)] == types


def test_one_receipt_covers_several_messages() -> None:
    found = events_of(a_notification(an_envelope(receiptMessage=a_receipt_message(1, 2, "3", True, -4, None, 5))))

    assert [event.provider_message_id for event in found if isinstance(event, DeliveryReceipt)] == ["1", "2", "5"]


def test_a_receipt_names_a_thousand_messages_at_most() -> None:
    receipt = a_receipt_message(*range(5000))

    assert len(events_of(a_notification(an_envelope(receiptMessage=receipt)))) == 1000


def test_the_receipts_of_two_devices_are_repeats() -> None:
    one, other = (
        events_of(a_notification(an_envelope(sourceDevice=device, receiptMessage=a_receipt_message(when=device))))
        for device in (1, 2)
    )

    assert isinstance(one[0], DeliveryReceipt)
    assert isinstance(other[0], DeliveryReceipt)
    assert one[0].receipt_id == other[0].receipt_id


@pytest.mark.parametrize("when", [None, "now", 10**30, True])
def test_a_receipt_without_its_time_counts_too(when: Any) -> None:
    (receipt,) = events_of(a_notification(an_envelope(receiptMessage=a_receipt_message(when=when))))

    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.occurred_at is None


def test_a_recipient_who_hides_the_number_is_an_aci() -> None:
    envelope = an_envelope(source=ACI, sourceNumber=None, receiptMessage=a_receipt_message())

    (receipt,) = events_of(a_notification(envelope))

    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.recipient == ACI


def a_data_message(**changes: Any) -> dict[str, Any]:
    return {"timestamp": 1760000005000, "message": "STOP 🙂", "expiresInSeconds": 0, "viewOnce": False} | changes


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        (
            an_envelope(dataMessage=a_data_message()),
            InboundMessage(f"{THEIRS}:1760000005000", THEIRS, "STOP 🙂", OURS, AT),
        ),
        (
            an_envelope(dataMessage=a_data_message(message=None), sourceNumber=None),
            InboundMessage(f"{ACI}:1760000005000", ACI, "", OURS, AT),
        ),
        (an_envelope(dataMessage=a_data_message(timestamp="x")), None),
        (an_envelope(dataMessage=a_data_message(), sourceNumber=None, sourceUuid=None), None),
    ],
)
def test_a_text_is_an_inbound_message(envelope: Any, expected: InboundMessage | None) -> None:
    assert events_of(a_notification(envelope)) == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    "payload",
    [
        a_notification(an_envelope(receiptMessage=a_receipt_message()), account="+4915550000009"),
        a_notification(an_envelope(receiptMessage=a_receipt_message()), account=None),
        a_notification(an_envelope(receiptMessage=a_receipt_message()), exception={"message": "x"}),
        a_notification(an_envelope(receiptMessage=a_receipt_message(timestamps="x"))),
        a_notification(an_envelope(receiptMessage=[1])),
        a_notification(an_envelope(typingMessage={"action": "STARTED"})),
        a_notification(an_envelope(syncMessage={})),
        a_notification(None),
        {"jsonrpc": "2.0", "method": "receive", "params": []},
        {"error": "x"},
        [],
        b"not json",
        b"\xff",
    ],
)
def test_what_is_no_receipt_of_this_number_is_no_event(payload: Any) -> None:
    assert events_of(payload) == []


def test_without_a_token_nothing_is_believed() -> None:
    credentials = SignalCredentials.model_validate({**FIELDS, "webhookToken": None})

    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(a_receipt(f"{URL}?token=", {}, b"{}"), credentials, {})
