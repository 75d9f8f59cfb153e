"""The template's own tests: the request, every row of the error table, the receipts, and the rules of every package."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

import httpx
import pytest
from acme_sms import ACME, ERROR_CODES, AcmeCredentials, build, classify, parse_webhook

from sluice.model.message import Sms
from sluice.model.outcome import Accepted, AuthFailed, Declined, ProviderFault, RecipientRejected, Throttled, Unknown
from sluice.model.state import EventType
from sluice.providers.contract import InvalidReceiptSignatureError, OutboundMessage, WebhookRequest
from sluice.providers.kit.conformance import violations

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
FIELDS = {"apiKey": "key-of-the-tests", "webhookSecret": "secret-of-the-tests"}
ACCOUNT = AcmeCredentials.model_validate(FIELDS)
MESSAGE = OutboundMessage(
    content=Sms(sender="ACME", text="Your code is 4711"),
    recipient="+15557654321",
    reference="att_01",
    message_id="msg_01",
    created_at=NOON,
    attempted_at=NOON,
)


def test_it_keeps_the_rules_of_every_package():
    assert violations(ACME, FIELDS, MESSAGE) == []


def test_the_whole_request():
    request = build(MESSAGE, ACCOUNT)

    assert (request.method, str(request.url)) == ("POST", "https://api.acme.example/messages")
    assert request.headers["authorization"] == "Bearer key-of-the-tests"
    assert json.loads(request.content) == {"to": "+15557654321", "text": "Your code is 4711", "reference": "att_01"}


ROWS = [
    (404, "unknown_number", RecipientRejected),
    (400, "text_too_long", Declined),
    (401, "bad_key", AuthFailed),
    (429, "slow_down", Throttled),
    (503, "maintenance", ProviderFault),
]


@pytest.mark.parametrize(("status", "code", "outcome"), ROWS)
def test_a_documented_error_has_its_outcome(status, code, outcome):
    assert isinstance(classify(httpx.Response(status, json={"error": code})), outcome)


def test_every_row_is_tested():
    assert {code for _, code, _ in ROWS} == ERROR_CODES.keys()


def test_only_the_documented_success_is_one():
    assert classify(httpx.Response(201, json={"id": "m-1"})) == Accepted("m-1")
    assert isinstance(classify(httpx.Response(200, json={"id": "m-1"})), Unknown)


def test_a_signed_receipt_is_read_and_a_forged_one_is_not():
    body = b'{"id": "m-1", "status": "delivered"}'
    signature = hmac.new(b"secret-of-the-tests", body, hashlib.sha256).hexdigest()
    request = WebhookRequest("POST", "https://hooks.example/r", {"x-acme-signature": signature}, body, NOON)

    (receipt,) = parse_webhook(request, ACCOUNT, {}).receipts

    assert (receipt.type, receipt.provider_message_id) == (EventType.DELIVERED, "m-1")
    forged = WebhookRequest("POST", request.url, request.headers, body + b" ", NOON)
    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(forged, ACCOUNT, {})
