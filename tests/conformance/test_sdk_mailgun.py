"""Mailgun's own library sends through the simulator's dialect, reads its errors and verifies its webhooks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mailgun.client import Client
from mailgun.config import RetryPolicy
from mailgun.security import SecurityGuard

from tests.conformance.simulator import Inbox, ThreadedSimulator

DOMAIN = "mg.example.com"


def send(simulator: ThreadedSimulator, files: Any = None, key: str = "key-1", **fields: Any) -> Any:
    client = Client(("api", key), api_url=simulator.url("mailgun"), retry_policy=RetryPolicy(max_retries=0))
    mail = {"from": "Acme <no-reply@example.com>", "to": ["ana@example.org"], "subject": "Grüße 🙂", "text": "hi"}
    data = {name: value for name, value in {**mail, **fields}.items() if value is not None}
    return client.messages.create(domain=DOMAIN, data=data, files=files)


def test_it_sends_a_mail(simulator: ThreadedSimulator) -> None:
    response = send(simulator, to=["Ana <ana@example.org>", "ben@example.org"], cc="c@example.org")

    assert response.status_code == 200
    assert response.json()["message"] == "Queued. Thank you."
    assert response.json()["id"].endswith(f"@{DOMAIN}>")


def test_it_sends_files_and_options(simulator: ThreadedSimulator) -> None:
    files = [("attachment", ("a.pdf", b"x", "application/pdf")), ("inline", ("logo", b"x", "image/png"))]

    options: dict[str, Any] = {"v:ref": "att_1", "o:tag": ["otp"], "o:tracking": "no"}

    response = send(simulator, files, html="<p>hi</p>", **options)

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("behaviour", "code", "status", "words"),
    [
        ("reject", "address", 400, "to parameter is not a valid address. please check documentation"),
        ("reject", "too-large", 413, "request size exceeds 52.4MiB limit"),
        ("throttle", "limit", 429, "request limit exceeded, try again after 7 seconds"),
        ("auth", "domain", 404, "Domain not found"),
        ("fault", "server-error", 500, "Internal Server Error"),
    ],
)
def test_it_reads_a_refusal(simulator: ThreadedSimulator, behaviour: str, code: str, status: int, words: str) -> None:
    with simulator.behaving("mailgun", behaviour=behaviour, code=code, retry_after=7):
        response = send(simulator)

    assert response.status_code == status
    assert words in response.json()["message"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"to": ["ana"]}, "to parameter is not a valid address"),
        ({"from": "@example.com"}, "from parameter is not a valid address"),
        ({"subject": None}, "subject parameter is missing"),
        ({"text": None}, "Need at least one of"),
        ({"to": [f"a{number}@example.org" for number in range(1001)]}, "Too many recipients"),
        ({"v:data": "x" * 17_000}, "limited to 16 kB"),
    ],
)
def test_its_false_requests_are_refused_as_mailgun_does(
    simulator: ThreadedSimulator, fields: dict[str, Any], words: str
) -> None:
    response = send(simulator, **fields)

    assert response.status_code == 400
    assert words in response.json()["message"]


def test_it_verifies_the_webhooks(simulator: ThreadedSimulator, inbox: Inbox) -> None:
    webhook = {"url": inbox.url, "secret": "the signing key"}
    plan = {"kinds": ["sent", "delivered", "bounced", "opened"], "delay": 0}
    with simulator.behaving("mailgun", webhooks={"*": webhook}, receipts=plan):
        message_id = send(simulator).json()["id"]

    assert len(inbox.calls) == 4
    for _, content in inbox.calls:
        body = json.loads(content)
        signature = body["signature"]
        assert SecurityGuard.verify_webhook("the signing key", **signature)
        assert not SecurityGuard.verify_webhook("another key", **signature)
        assert body["event-data"]["message"]["headers"]["message-id"] == message_id.strip("<>")
