"""Every request of the FCM package fits Google's discovery document, which allows no other fields here."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.auth import jwt

from sluice.model.message import Push
from sluice.providers.adapters.fcm import MESSAGE_ID, build_token_request
from sluice.providers.contract import OutboundMessage
from sluice.providers.registry import get_package
from sluice.runtime.clock import utc_now
from tests.conformance.conftest import Conforms, spec
from tests.conformance.messages import push_messages
from tests.unit.providers.test_fcm import CREDENTIALS, KEY

PACKAGE = get_package("provider-fcm")
SEND = spec("fcm", {"$ref": "#/$defs/SendMessageRequest"})


def test_every_request_fits_the_description(conforms: Conforms) -> None:
    def check(request: httpx.Request, message: OutboundMessage) -> None:
        content = message.content
        assert isinstance(content, Push)
        body = json.loads(request.content)
        SEND.validate(body)
        sent = body["message"]
        assert len({"token", "topic", "condition", "fid"} & set(sent)) == 1
        assert {**sent["data"], MESSAGE_ID: ""} == {**content.data, MESSAGE_ID: ""}
        assert sent.get("notification", {}).get("body") == content.text

    conforms(PACKAGE, push_messages(), check)


@pytest.mark.parametrize(
    "message",
    [
        {"collapse_key": "x"},
        {"data": {"a": 1}},
        {"android": {"priority": "URGENT"}},
        {"notification": {"text": "x"}},
    ],
)
def test_another_field_does_not_fit_it(message: Any) -> None:
    assert not SEND.is_valid({"message": message})


def test_googles_library_verifies_the_assertion() -> None:
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    request = build_token_request(CREDENTIALS, utc_now())
    assertion = dict(httpx.QueryParams(request.content.decode()))["assertion"]

    claims = jwt.decode(assertion, certs=public, audience="https://oauth2.googleapis.com/token")

    assert claims["iss"] == CREDENTIALS.client_email
