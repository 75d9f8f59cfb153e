"""SendGrid's own library sends through the simulator's dialect, reads its errors and verifies its events."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from python_http_client.exceptions import HTTPError
from sendgrid import SendGridAPIClient
from sendgrid.helpers.eventwebhook import EventWebhook, EventWebhookHeader
from sendgrid.helpers.mail import Attachment, Bcc, Cc, CustomArg, Header, Mail, ReplyTo

from tests.conformance.simulator import Inbox, ThreadedSimulator
from tests.unit.providers.test_sendgrid import PRIVATE_KEY, PUBLIC_KEY


def a_mail(**changes: Any) -> Mail:
    fields: dict[str, Any] = {
        "from_email": ("no-reply@example.com", "Acme"),
        "to_emails": [("ana@example.org", "Ana"), ("ben@example.org", "Ben")],
        "subject": "Grüße 🙂",
        "plain_text_content": "hi",
        "html_content": "<p>hi</p>",
    }
    return Mail(**fields | changes)


def send(simulator: ThreadedSimulator, mail: Any, key: str = "SG.1") -> Any:
    return SendGridAPIClient(api_key=key, host=simulator.url("sendgrid")).send(mail)


def refusal(simulator: ThreadedSimulator, mail: Any, key: str = "SG.1") -> tuple[int, str]:
    with pytest.raises(HTTPError) as refused:
        send(simulator, mail, key)
    return refused.value.status_code, refused.value.to_dict["errors"][0]["message"]


def test_it_sends_a_mail_with_every_option(simulator: ThreadedSimulator) -> None:
    mail = a_mail()
    mail.add_cc(Cc("c@example.org"))
    mail.add_bcc(Bcc("d@example.org"))
    mail.reply_to = ReplyTo("help@example.com", "Help")
    mail.header = Header("X-Sluice-Message-Id", "msg_1")
    mail.custom_arg = CustomArg("sluice_ref", "att_1")
    mail.attachment = Attachment(base64.b64encode(b"x").decode(), "a.pdf", "application/pdf", "inline", "logo")

    response = send(simulator, mail)

    assert response.status_code == 202
    assert response.body == b""
    assert response.headers["X-Message-Id"]


@pytest.mark.parametrize(
    ("behaviour", "code", "status", "words"),
    [
        ("reject", "address", 400, "Does not contain a valid address."),
        ("reject", "sender", 403, "The from address does not match a verified Sender Identity."),
        ("throttle", "too-many-requests", 429, "too many requests"),
        ("auth", "credits", 401, "Maximum credits exceeded"),
        ("fault", "server-error", 500, "internal server error"),
        ("fault", "unavailable", 503, "service unavailable"),
    ],
)
def test_it_reads_a_refusal(simulator: ThreadedSimulator, behaviour: str, code: str, status: int, words: str) -> None:
    with simulator.behaving("sendgrid", behaviour=behaviour, code=code):
        assert refusal(simulator, a_mail()) == (status, words)


def test_its_false_requests_are_refused_as_sendgrid_does(simulator: ThreadedSimulator) -> None:
    twice = a_mail()
    twice.add_cc(Cc("ANA@example.org"))
    html_first = a_mail().get()
    html_first["content"].reverse()
    key_refused = "The provided authorization grant is invalid, expired, or revoked"

    assert refusal(simulator, a_mail(), key="other") == (401, key_refused)
    assert refusal(simulator, a_mail(to_emails="ana@example")) == (400, "Does not contain a valid address.")
    assert refusal(simulator, twice)[1].startswith("Each email address in the personalization block")
    assert refusal(simulator, html_first)[1].startswith("If present, text/plain must be first")
    assert refusal(simulator, {**a_mail().get(), "cc": None})[0] == 400
    assert refusal(simulator, {**a_mail().get(), "subject": ""})[0] == 400


def test_it_verifies_the_events(simulator: ThreadedSimulator, inbox: Inbox) -> None:
    webhook = {"url": inbox.url, "secret": PRIVATE_KEY}
    plan = {"kinds": ["sent", "delivered", "bounced", "opened"], "delay": 0}
    with simulator.behaving("sendgrid", webhooks={"*": webhook}, receipts=plan):
        message_id = send(simulator, a_mail()).headers["X-Message-Id"]

    verifier = EventWebhook(PUBLIC_KEY)
    assert len(inbox.calls) == 4
    for headers, body in inbox.calls:
        signature = headers[EventWebhookHeader.SIGNATURE.lower()]
        timestamp = headers[EventWebhookHeader.TIMESTAMP.lower()]
        assert verifier.verify_signature(body.decode(), signature, timestamp)
        assert not verifier.verify_signature(body.decode(), signature, timestamp + "0")
        (event,) = json.loads(body)
        assert event["sg_message_id"].startswith(f"{message_id}.")
