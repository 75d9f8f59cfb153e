"""Firebase's own library exchanges its token, sends through the simulator's dialect, and understands its errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import firebase_admin
import pytest
from firebase_admin import App, credentials, exceptions, messaging

from tests.conformance.simulator import ThreadedSimulator
from tests.unit.providers.test_fcm import DEVICE, PEM

# Tokens are deprecated there in favour of installation ids, which the API does not require yet.
pytestmark = pytest.mark.filterwarnings("ignore:Message.token is deprecated:DeprecationWarning")
NAME = re.compile(r"projects/sluice-test/messages/\S+")


@pytest.fixture
def app(simulator: ThreadedSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    address = f"{simulator.url('fcm')}/v1/projects/{{0}}/messages:send"
    monkeypatch.setattr(messaging._MessagingService, "FCM_URL", address)
    account = {
        "type": "service_account",
        "project_id": "sluice-test",
        "private_key_id": "k1",
        "private_key": PEM,
        "client_email": "sender@sluice-test.iam.gserviceaccount.com",
        "token_uri": f"{simulator.url('fcm')}/token",
    }
    found = firebase_admin.initialize_app(credentials.Certificate(account))
    yield found
    firebase_admin.delete_app(found)


def test_it_sends_to_a_device(app: App) -> None:
    notification = messaging.Notification(title="Grüße", body="🙂", image="https://example.test/a.png")

    name = messaging.send(messaging.Message(token=DEVICE, notification=notification, data={"order": "A-17"}), app=app)

    assert NAME.fullmatch(name)


@pytest.mark.parametrize("target", [{"topic": "news"}, {"condition": "'a' in topics"}])
def test_it_sends_to_a_topic(app: App, target: dict[str, Any]) -> None:
    assert NAME.fullmatch(messaging.send(messaging.Message(**target, data={"a": "b"}), app=app))


def test_it_sends_every_platforms_options(app: App) -> None:
    message = messaging.Message(
        token=DEVICE,
        android=messaging.AndroidConfig(
            collapse_key="k",
            priority="high",
            ttl=3600,
            notification=messaging.AndroidNotification(tag="t"),
        ),
        apns=messaging.APNSConfig(
            headers={"apns-collapse-id": "t"},
            payload=messaging.APNSPayload(aps=messaging.Aps(mutable_content=True, sound="default")),
        ),
        webpush=messaging.WebpushConfig(headers={"TTL": "60"}),
    )

    assert NAME.fullmatch(messaging.send(message, app=app))


def test_a_dry_run_sends_nothing(app: App) -> None:
    name = messaging.send(messaging.Message(token=DEVICE), dry_run=True, app=app)

    assert name == "projects/sluice-test/messages/fake_message_id"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("UNREGISTERED", messaging.UnregisteredError),
        ("SENDER_ID_MISMATCH", messaging.SenderIdMismatchError),
        ("THIRD_PARTY_AUTH_ERROR", messaging.ThirdPartyAuthError),
        ("QUOTA_EXCEEDED", messaging.QuotaExceededError),
        ("INVALID_TOKEN", exceptions.InvalidArgumentError),
        ("PERMISSION_DENIED", exceptions.PermissionDeniedError),
        ("NOT_FOUND", exceptions.NotFoundError),
    ],
)
def test_it_understands_a_refusal(app: App, simulator: ThreadedSimulator, code: str, error: type[Exception]) -> None:
    with simulator.behaving("fcm", behaviour="reject", code=code), pytest.raises(error):
        messaging.send(messaging.Message(token=DEVICE), app=app)


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "a b"},
        {"token": DEVICE, "data": {"google.x": "y"}},
        {"token": DEVICE, "notification": messaging.Notification(body="x" * 5000)},
    ],
)
def test_it_understands_what_is_not_valid(app: App, fields: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgumentError):
        messaging.send(messaging.Message(**fields), app=app)
