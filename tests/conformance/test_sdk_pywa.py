"""pywa, an independent client of Meta's Cloud API (Meta has none for Python), at the simulator's dialects.

360dialog has no client either. Its API differs in the address and the header of the key only, which a hook changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from pywa import WhatsApp, errors
from pywa.types import MessageStatus, MessageStatusType
from pywa.types.templates import BodyText, TemplateLanguage
from pywa.utils import webhook_updates_validator

from tests.conformance.simulator import Inbox, ThreadedSimulator

PHONE = "2045"
SECRET = "app-secret"


@pytest.fixture
def client(simulator: ThreadedSimulator) -> Iterator[WhatsApp]:
    with httpx.Client() as session:
        found = WhatsApp(PHONE, "EAAB-token", session=session)
        session.base_url = httpx.URL(f"{simulator.url('meta-cloud')}/v23.0")
        yield found


def as_360dialog(request: httpx.Request) -> None:
    request.url = request.url.copy_with(path="/messages")
    request.headers["D360-API-KEY"] = "d360-key"
    del request.headers["authorization"]


@pytest.fixture
def client_360dialog(simulator: ThreadedSimulator) -> Iterator[WhatsApp]:
    with httpx.Client(event_hooks={"request": [as_360dialog]}) as session:
        found = WhatsApp(PHONE, "EAAB-token", session=session)
        session.base_url = httpx.URL(f"{simulator.url('360dialog')}/v23.0")
        yield found


def test_it_sends_a_text(client: WhatsApp) -> None:
    sent = client.send_message(to="+15557654321", text="Grüße 🙂", preview_url=False, tracker="att_1")

    assert re.fullmatch(r"wamid\.[A-Za-z0-9+/=]{20,}", sent.id)


def test_it_sends_a_template(client: WhatsApp) -> None:
    sent = client.send_template(
        to="+15557654321",
        name="order_update",
        language=TemplateLanguage.ENGLISH_US,
        params=[BodyText.params("Ann", "A-17")],
    )

    assert sent.id.startswith("wamid.")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (190, errors.ExpiredAccessToken),
        (10, errors.PermissionDenied),
        (4, errors.ToManyAPICalls),
        (80007, errors.RateLimitIssues),
        (130429, errors.RateLimitHit),
        (131048, errors.SpamRateLimitHit),
        (131056, errors.TooManyMessages),
        (131026, errors.MessageUndeliverable),
        (131047, errors.ReEngagementMessage),
        (131031, errors.AccountLocked),
        (131016, errors.ServiceUnavailable),
        (131000, errors.UnknownError),
        (131042, errors.BusinessPaymentIssue),
        (132000, errors.TemplateParamCountMismatch),
        (132001, errors.TemplateNotExists),
    ],
)
def test_it_understands_a_refusal(
    client: WhatsApp, simulator: ThreadedSimulator, code: int, error: type[errors.WhatsAppError]
) -> None:
    with simulator.behaving("meta-cloud", behaviour="reject", code=str(code)), pytest.raises(error) as refused:
        client.send_message(to="+15557654321", text="x")

    assert refused.value.code == code


def test_it_verifies_and_reads_a_status(client: WhatsApp, simulator: ThreadedSimulator, inbox: Inbox) -> None:
    receipts = {"kinds": ["sent", "delivered", "read", "failed"], "delay": 0, "interval": 0}
    webhooks = {"*": {"url": inbox.url, "secret": SECRET}}
    with simulator.behaving("meta-cloud", receipts=receipts, webhooks=webhooks):
        sent = client.send_message(to="+15557654321", text="x", tracker="att_1")

    statuses = []
    for headers, body in inbox.calls:
        assert webhook_updates_validator(SECRET, body, headers["x-hub-signature-256"])
        assert not webhook_updates_validator("other", body, headers["x-hub-signature-256"])
        statuses.append(MessageStatus.from_update(client, json.loads(body)))

    assert {status.id for status in statuses} == {sent.id}
    assert {status.tracker for status in statuses} == {"att_1"}
    assert {status.status for status in statuses} == {
        MessageStatusType.SENT,
        MessageStatusType.DELIVERED,
        MessageStatusType.READ,
        MessageStatusType.FAILED,
    }
    (failed,) = [status for status in statuses if status.status is MessageStatusType.FAILED]
    assert isinstance(failed.error, errors.ReEngagementMessage)


def test_it_sends_through_360dialog(client_360dialog: WhatsApp) -> None:
    sent = client_360dialog.send_message(to="15557654321", text="Grüße 🙂", tracker="att_1")

    assert sent.id.startswith("wamid.")


def test_it_understands_metas_refusal_through_360dialog(
    client_360dialog: WhatsApp, simulator: ThreadedSimulator
) -> None:
    with (
        simulator.behaving("360dialog", behaviour="reject", code="131047"),
        pytest.raises(errors.ReEngagementMessage),
    ):
        client_360dialog.send_message(to="15557654321", text="x")


def test_it_reads_a_status_of_360dialog(client_360dialog: WhatsApp, simulator: ThreadedSimulator, inbox: Inbox) -> None:
    receipts = {"kinds": ["delivered"], "delay": 0}
    webhooks = {"*": {"url": inbox.url, "secret": "unguessable-token-of-the-url"}}
    with simulator.behaving("360dialog", receipts=receipts, webhooks=webhooks):
        sent = client_360dialog.send_message(to="15557654321", text="x", tracker="att_1")

    ((_, body),) = inbox.calls
    status = MessageStatus.from_update(client_360dialog, json.loads(body))
    assert (status.id, status.status, status.tracker) == (sent.id, MessageStatusType.DELIVERED, "att_1")
