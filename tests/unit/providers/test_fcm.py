"""provider-fcm: the request, the exchange of tokens, and every row of the error table."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr, ValidationError

from sluice.model.message import Push
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
from sluice.providers.adapters.fcm import FCM, FcmCredentials, build, build_token_request, classify
from sluice.providers.contract import UnsupportedMessageError
from sluice_simulator.dialects.fcm import issue_token
from tests.unit.providers.examples import HIDDEN, NOON, Sample, an_sms, outbound
from tests.unit.providers.whatsapp import like

KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
SAMPLE = Sample(
    {
        "projectId": "sluice-test",
        "clientEmail": "sender@sluice-test.iam.gserviceaccount.com",
        "privateKey": f"{HIDDEN}\n{PEM}",  # PEM allows text before the key
        "privateKeyId": "k1",
    },
    access_token=SecretStr(issue_token(9_999_999_999)),
)
FIELDS: dict[str, Any] = {**SAMPLE.credentials, "privateKey": PEM}
CREDENTIALS = FcmCredentials.model_validate(FIELDS)
DEVICE = "dQw4w9WgXcQ_abcdefghi:APA91bF-x_y"
PUSH = Push(title="Order A-17", text="Shipped 🙂")


def with_fields(**changes: Any) -> FcmCredentials:
    return FcmCredentials.model_validate({**FIELDS, **changes})


def a_push(content: Push = PUSH, **changes: Any) -> Any:
    defaults = {"recipient": DEVICE, "message_id": "msg_01", "access_token": SecretStr("ya29.abc")}
    return outbound(content, **defaults | changes)


def message_of(request: httpx.Request) -> Any:
    body = json.loads(request.content)
    assert set(body) == {"message"}
    return body["message"]


# The request


def test_a_notification_is_in_the_request() -> None:
    request = build(a_push(), CREDENTIALS)

    assert (request.method, str(request.url)) == (
        "POST",
        "https://fcm.googleapis.com/v1/projects/sluice-test/messages:send",
    )
    assert request.headers["authorization"] == "Bearer ya29.abc"
    assert request.headers["content-type"] == "application/json"
    assert message_of(request) == {
        "token": DEVICE,
        "notification": {"title": "Order A-17", "body": "Shipped 🙂"},
        "data": {"sluice_message_id": "msg_01"},
        "android": {"notification": {"tag": "msg_01"}},
        "apns": {"headers": {"apns-collapse-id": "msg_01"}},
    }


def test_every_option_is_in_the_request() -> None:
    push = Push(title="T", text="B", image="https://example.test/a.png", data={"order": "A-17", "ключ": "значение"})

    assert message_of(build(a_push(push), CREDENTIALS)) == {
        "token": DEVICE,
        "notification": {"title": "T", "body": "B", "image": "https://example.test/a.png"},
        "data": {"sluice_message_id": "msg_01", "order": "A-17", "ключ": "значение"},
        "android": {"notification": {"tag": "msg_01"}},
        "apns": {"headers": {"apns-collapse-id": "msg_01"}, "payload": {"aps": {"mutable-content": 1}}},
    }


def test_data_alone_goes_to_the_background() -> None:
    assert message_of(build(a_push(Push(data={"a": "b"})), CREDENTIALS)) == {
        "token": DEVICE,
        "data": {"sluice_message_id": "msg_01", "a": "b"},
        "apns": {
            "headers": {"apns-priority": "5", "apns-push-type": "background"},
            "payload": {"aps": {"content-available": 1}},
        },
    }


@pytest.mark.parametrize(
    ("platform", "android", "apns", "webpush"),
    [
        (
            {"android": {"priority": "high"}},
            {"priority": "high", "notification": {"tag": "msg_01"}},
            {"headers": {"apns-collapse-id": "msg_01"}},
            None,
        ),
        (
            {"android": {"ttl": "60s", "notification": {"channel_id": "orders", "tag": "order-17"}}},
            {"ttl": "60s", "notification": {"channel_id": "orders", "tag": "order-17"}},
            {"headers": {"apns-collapse-id": "msg_01"}},
            None,
        ),
        (
            {"apns": {"headers": {"apns-priority": "10"}, "payload": {"aps": {"badge": 3, "sound": "default"}}}},
            {"notification": {"tag": "msg_01"}},
            {
                "headers": {"apns-collapse-id": "msg_01", "apns-priority": "10"},
                "payload": {"aps": {"badge": 3, "sound": "default"}},
            },
            None,
        ),
        (
            {"webpush": {"fcm_options": {"link": "https://shop.example/orders/17"}}},
            {"notification": {"tag": "msg_01"}},
            {"headers": {"apns-collapse-id": "msg_01"}},
            {"fcm_options": {"link": "https://shop.example/orders/17"}},
        ),
    ],
)
def test_the_options_of_a_platform_are_added_and_come_before_ours(
    platform: dict[str, Any], android: Any, apns: Any, webpush: Any
) -> None:
    message = message_of(build(a_push(Push(text="x", platform=platform)), CREDENTIALS))

    assert (message["android"], message["apns"], message.get("webpush")) == (android, apns, webpush)


def test_an_image_and_data_alone_keep_what_they_need_beside_the_options_of_a_platform() -> None:
    badge = {"apns": {"payload": {"aps": {"badge": 1}}}}
    shown = message_of(build(a_push(Push(text="x", image="https://x.test/a.png", platform=badge)), CREDENTIALS))
    hidden = [message_of(build(a_push(Push(data={"a": "b"}, platform=badge)), CREDENTIALS)) for _ in range(2)]

    assert shown["apns"]["payload"] == {"aps": {"mutable-content": 1, "badge": 1}}
    assert [one["apns"] for one in hidden] == [
        {
            "headers": {"apns-priority": "5", "apns-push-type": "background"},
            "payload": {"aps": {"content-available": 1, "badge": 1}},
        }
    ] * 2
    assert message_of(build(a_push(Push(data={"a": "b"})), CREDENTIALS))["apns"]["payload"] == {
        "aps": {"content-available": 1}
    }


def test_a_platform_that_fcm_has_not_is_no_field_of_the_message() -> None:
    message = message_of(build(a_push(Push(text="x", platform={"token": {"a": 1}, "huawei": {}})), CREDENTIALS))

    assert message.keys() == {"token", "notification", "data", "android", "apns"}
    assert message["token"] == DEVICE


def test_the_apps_own_field_comes_before_ours() -> None:
    message = message_of(build(a_push(Push(text="x", data={"sluice_message_id": "theirs"})), CREDENTIALS))

    assert message["data"] == {"sluice_message_id": "theirs"}


@pytest.mark.parametrize(
    ("recipient", "target"),
    [
        ("topic:news-1_%7E.x~", {"topic": "news-1_%7E.x~"}),
        (DEVICE, {"token": DEVICE}),
        ("topicless", {"token": "topicless"}),
    ],
)
def test_a_recipient_is_a_device_or_a_topic(recipient: str, target: dict[str, str]) -> None:
    message = message_of(build(a_push(recipient=recipient), CREDENTIALS))

    assert {name: message[name] for name in ("token", "topic", "condition") if name in message} == target


def test_an_identifier_fits_into_apples_header() -> None:
    message = message_of(build(a_push(message_id="msg_" + "x" * 100), CREDENTIALS))

    assert len(message["apns"]["headers"]["apns-collapse-id"]) == 64


def test_every_attempt_sends_the_same_bytes() -> None:
    first = build(a_push(), CREDENTIALS)
    second = build(a_push(reference="att_2", access_token=SecretStr("ya29.other")), CREDENTIALS)

    assert (first.url, first.content) == (second.url, second.content)


@pytest.mark.parametrize(
    "message",
    [
        outbound(an_sms()),
        a_push(Push(text="\ud800")),
        a_push(Push(text="x", data={"\ud800": "x"})),
        a_push(Push(text="x", platform={"android": {"collapse_key": "\ud800"}})),
        a_push(recipient="user:42"),
        a_push(recipient="topic:"),
        a_push(recipient="topic:a b"),
        a_push(recipient="topic:/topics/news"),
    ],
)
def test_what_it_cannot_carry_is_refused(message: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(message, CREDENTIALS)


# Credentials


def a_file(**changes: Any) -> str:
    account = {
        "type": "service_account",
        "project_id": "file-project",
        "private_key_id": "k2",
        "private_key": PEM,
        "client_email": "file@file-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return json.dumps({name: value for name, value in {**account, **changes}.items() if value is not None})


@pytest.mark.parametrize(
    ("fields", "project"), [({}, "file-project"), ({"projectId": "other-project"}, "other-project")]
)
def test_googles_file_replaces_the_parts(fields: dict[str, Any], project: str) -> None:
    credentials = FcmCredentials.model_validate({"serviceAccount": a_file(), **fields})

    assert f"/v1/projects/{project}/" in str(build(a_push(), credentials).url)
    assert claims_of(build_token_request(credentials, NOON))["iss"] == "file@file-project.iam.gserviceaccount.com"
    assert header_of(build_token_request(credentials, NOON))["kid"] == "k2"


def test_a_key_from_an_environment_variable_is_read() -> None:
    credentials = with_fields(privateKey=PEM.replace("\n", "\\n"))

    assert claims_of(build_token_request(credentials, NOON))["iss"] == FIELDS["clientEmail"]


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"projectId": None}, ()),
        ({"clientEmail": None}, ()),
        ({"privateKey": None}, ()),
        ({"projectId": "a/b"}, ("projectId",)),
        ({"clientEmail": "no address"}, ("clientEmail",)),
        ({"privateKey": "x"}, ("privateKey",)),
        ({"privateKey": PEM[:200]}, ("privateKey",)),
        ({"tokenUri": "ftp://x"}, ("tokenUri",)),
        ({"baseUrl": "x"}, ("baseUrl",)),
        ({"surprise": 1}, ("surprise",)),
        *(
            ({"serviceAccount": file}, ("serviceAccount",))
            for file in (
                "x",
                "[]",
                a_file(type="authorized_user"),
                a_file(project_id=None),
                a_file(project_id="a/b"),
                a_file(project_id="a\n"),
                a_file(client_email=None),
                a_file(client_email=7),
                a_file(private_key=None),
                a_file(private_key="x"),
            )
        ),
    ],
)
def test_credentials_that_cannot_work_are_refused(fields: dict[str, Any], location: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as error:
        with_fields(**fields)

    assert [found["loc"] for found in error.value.errors()] == [location]
    assert "MII" not in str(error.value)


# Tokens


def assertion_of(request: httpx.Request) -> list[str]:
    return dict(httpx.QueryParams(request.content.decode()))["assertion"].split(".")


def header_of(request: httpx.Request) -> Any:
    return json.loads(base64.urlsafe_b64decode(assertion_of(request)[0] + "=="))


def claims_of(request: httpx.Request) -> Any:
    return json.loads(base64.urlsafe_b64decode(assertion_of(request)[1] + "=="))


def test_the_assertion_has_googles_claims() -> None:
    request = build_token_request(CREDENTIALS, NOON)

    issued = int(NOON.timestamp())
    assert header_of(request) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert claims_of(request) == {
        "iss": "sender@sluice-test.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": issued,
        "exp": issued + 3600,
    }


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://oauth2.googleapis.com/token"),
        ({"tokenUri": "https://tokens.example.test/t"}, "https://tokens.example.test/t"),
        ({"baseUrl": "http://127.0.0.1:8080/"}, "http://127.0.0.1:8080/token"),
        ({"baseUrl": "http://127.0.0.1:8080", "tokenUri": "http://127.0.0.1:1/t"}, "http://127.0.0.1:1/t"),
    ],
)
def test_tokens_come_from_google_or_from_the_replaced_address(fields: dict[str, Any], url: str) -> None:
    assert str(build_token_request(with_fields(**fields), NOON).url) == url


def test_the_package_has_an_exchange() -> None:
    assert FCM.token is not None
    assert FCM.parse_webhook is None


# Responses

NAME = "projects/sluice-test/messages/0:1760000000123456%31bd1c96"


@pytest.mark.parametrize("name", [NAME, "projects/123/messages/fake_message_id"])
def test_a_200_with_the_messages_name_is_accepted_under_it(name: str) -> None:
    assert classify(httpx.Response(200, json={"name": name})) == Accepted(name)


@pytest.mark.parametrize(
    "body",
    [
        *({"name": odd} for odd in (None, "", 7, "projects//messages/1", "projects/a/messages/", "messages/1", "x y")),
        *({}, [], {"name": NAME, "error": {"code": 400}}, {"error": {"status": "NOT_FOUND"}}),
    ],
)
def test_a_200_that_is_not_the_documented_one_is_unknown(body: Any) -> None:
    assert isinstance(classify(httpx.Response(200, json=body)), Unknown)


@pytest.mark.parametrize("status", [201, 204, 302])
def test_another_status_with_a_name_is_no_acceptance(status: int) -> None:
    assert isinstance(classify(httpx.Response(status, json={"name": NAME})), Unknown)


def fcm_error(code: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}


def bad_request(*fields: Any) -> dict[str, Any]:
    violations = [{"field": field, "description": "x"} for field in fields]
    return {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}


def refused(http: int, status: Any, *details: Any, message: Any = "Words", **headers: str) -> Outcome:
    error = {"code": http, "message": message, "status": status, "details": list(details)}
    return classify(httpx.Response(http, json={"error": error}, headers=headers))


GONE = RecipientRejected(Reason.UNKNOWN_RECIPIENT)
NO_TOKEN = RecipientRejected(Reason.INVALID_ADDRESS)
INVALID, OTHER, PLATFORM = Declined(Reason.INVALID_CONTENT), Declined(Reason.OTHER), Declined(Reason.CREDENTIALS)
MINUTE = Throttled(retry_after=timedelta(seconds=60))
TOKEN_WORDS = "The registration token is not a valid FCM registration token"
# Every row of the sheet: HTTP status, status, details, message, outcome.
ROWS: list[tuple[int, str, list[Any], str, Outcome]] = [
    (404, "NOT_FOUND", [fcm_error("UNREGISTERED")], "Requested entity was not found.", GONE),
    (404, "NOT_FOUND", [], "Requested entity was not found.", AuthFailed()),
    (403, "PERMISSION_DENIED", [fcm_error("SENDER_ID_MISMATCH")], "SenderId mismatch", Declined(Reason.SENDER)),
    (403, "PERMISSION_DENIED", [], "denied", AuthFailed()),
    (401, "UNAUTHENTICATED", [fcm_error("THIRD_PARTY_AUTH_ERROR")], "x", PLATFORM),
    (401, "UNAUTHENTICATED", [fcm_error("APNS_AUTH_ERROR")], "x", PLATFORM),
    (401, "UNAUTHENTICATED", [], "x", AuthFailed()),
    (400, "INVALID_ARGUMENT", [fcm_error("INVALID_ARGUMENT")], TOKEN_WORDS, NO_TOKEN),
    (400, "INVALID_ARGUMENT", [], TOKEN_WORDS.upper(), NO_TOKEN),
    (400, "INVALID_ARGUMENT", [fcm_error("INVALID_ARGUMENT"), bad_request("message.token")], "x", NO_TOKEN),
    (400, "INVALID_ARGUMENT", [bad_request("message.data[0].value")], "x", INVALID),
    (400, "INVALID_ARGUMENT", [fcm_error("INVALID_ARGUMENT")], "x", INVALID),
    (400, "INVALID_ARGUMENT", [], "x", INVALID),
    (400, "FAILED_PRECONDITION", [], "x", OTHER),
    (400, "OUT_OF_RANGE", [], "x", OTHER),
    (400, "SOMETHING_NEW", [], "x", INVALID),
    (429, "RESOURCE_EXHAUSTED", [fcm_error("QUOTA_EXCEEDED")], "x", MINUTE),
    (429, "RESOURCE_EXHAUSTED", [], "x", MINUTE),
    (429, "SOMETHING_NEW", [], "x", MINUTE),
    (500, "INTERNAL", [fcm_error("INTERNAL")], "x", ProviderFault()),
    (500, "INTERNAL", [], "x", ProviderFault()),
    (502, "SOMETHING_NEW", [], "x", ProviderFault()),
    (503, "UNAVAILABLE", [fcm_error("UNAVAILABLE")], "x", ProviderFault()),
    (503, "UNAVAILABLE", [], "x", ProviderFault()),
    (504, "DEADLINE_EXCEEDED", [], "x", Unknown()),
    (504, "SOMETHING_NEW", [], "x", Unknown()),
    (500, "UNKNOWN", [], "x", ProviderFault()),
    (400, "INVALID_ARGUMENT", [fcm_error("UNSPECIFIED_ERROR")], "x", ProviderFault()),
    (500, "SOMETHING_NEW", [], "x", Unknown()),
]


@pytest.mark.parametrize(("http", "status", "details", "message", "outcome"), ROWS)
def test_every_row_has_its_outcome(http: int, status: str, details: list[Any], message: str, outcome: Outcome) -> None:
    found = refused(http, status, *details, message=message)

    assert like(found, outcome)
    assert not isinstance(found, Accepted)
    assert found.detail.startswith(f"{http} ")
    assert found.detail.endswith(message)


@pytest.mark.parametrize(
    "details",
    [
        [None, "x", 7, {}, {"@type": 7}],
        [fcm_error(None)],
        [fcm_error(7)],
        [{**bad_request(), "fieldViolations": "x"}],
        [bad_request(None, 7)],
        [{**bad_request(), "fieldViolations": [None, "message.token"]}],
        [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "errorCode": "UNREGISTERED"}],
    ],
)
def test_details_in_another_form_are_passed_over(details: list[Any]) -> None:
    assert like(refused(400, "INVALID_ARGUMENT", *details), INVALID)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, Declined), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed), (413, Declined), (429, Throttled)],
        *[(502, ProviderFault), (500, Unknown), (503, Unknown), (504, Unknown), (302, Unknown)],
    ],
)
@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"error":"x"}', b'{"error":{"status":7,"details":"x"}}'])
def test_without_googles_own_error_the_status_decides(status: int, outcome: type[Outcome], content: bytes) -> None:
    assert type(classify(httpx.Response(status, content=content))) is outcome


def retry_info(delay: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


@pytest.mark.parametrize(
    ("details", "headers", "wait"),
    [
        ([], {}, 60),
        ([], {"Retry-After": "30"}, 30),
        ([retry_info("12s")], {}, 12),
        ([retry_info("1.5s")], {"Retry-After": "30"}, 1.5),
        ([retry_info("99999999s")], {}, 3600),
        ([retry_info("soon")], {}, 60),
        ([retry_info(7)], {}, 60),
    ],
)
def test_a_throttled_call_carries_the_wait(details: list[Any], headers: dict[str, str], wait: float) -> None:
    found = refused(429, "RESOURCE_EXHAUSTED", fcm_error("QUOTA_EXCEEDED"), *details, **headers)

    assert isinstance(found, Throttled)
    assert found.retry_after == timedelta(seconds=wait)


def test_the_time_of_an_attempt_is_not_in_the_message() -> None:
    later = a_push(attempted_at=datetime(2027, 1, 1, tzinfo=UTC))

    assert build(later, CREDENTIALS).content == build(a_push(), CREDENTIALS).content
