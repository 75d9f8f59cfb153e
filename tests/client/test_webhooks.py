"""Webhooks are verified as the independent library of Standard Webhooks signs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from sluice.client import InvalidSignatureError, verify_webhook
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_c2ltdWxhdG9yLXRlc3Qta2V5"
BODY = json.dumps({"type": "delivered", "data": {"id": "msg_1", "subject": "Grüße"}}).encode()
AT = datetime(2026, 11, 28, tzinfo=UTC)


def signed(secret=SECRET, body=BODY):
    return {
        "Webhook-Id": "whd_1",
        "Webhook-Timestamp": str(int(AT.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("whd_1", AT, body.decode()),
    }


def check(headers, body=BODY, secret=SECRET, **options):
    return verify_webhook(headers, body, secret, **{"now": AT.timestamp(), **options})


def test_a_genuine_webhook_is_its_event():
    assert check(signed()) == json.loads(BODY)


def test_one_of_two_signatures_is_enough_during_a_rotation():
    headers = signed()
    headers["Webhook-Signature"] = f"{signed(OTHER)['Webhook-Signature']} {headers['Webhook-Signature']}"

    assert check(headers)["type"] == "delivered"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(OTHER),
        {**signed(), "Webhook-Signature": ""},
        {**signed(), "Webhook-Signature": signed()["Webhook-Signature"][:-4]},
        {**signed(), "Webhook-Signature": signed()["Webhook-Signature"].replace("v1,", "v2,")},
        {**signed(), "Webhook-Id": "whd_2"},
        {**signed(), "Webhook-Timestamp": "now"},
        {**signed(), "Webhook-Timestamp": str(int(AT.timestamp()) + 1)},
        {**signed(), "Webhook-Signature": "v1,ü"},
    ],
)
def test_a_forged_webhook_is_refused(headers):
    with pytest.raises(InvalidSignatureError):
        check(headers)


@pytest.mark.parametrize(
    "options",
    [
        {"body": BODY + b" "},
        {"secret": ""},
        {"secret": "whsec_"},
        {"secret": "whsec_*"},
        {"now": AT.timestamp() + 301},
        {"now": AT.timestamp() - 301},
    ],
)
def test_another_body_secret_or_time_is_refused(options):
    with pytest.raises(InvalidSignatureError):
        check(signed(), **options)
