"""Twilio's own library sends through the simulator's dialects, and understands their errors."""

from __future__ import annotations

import re

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from tests.conformance.simulator import ThreadedSimulator

SID = "AC" + "0" * 32
TOKEN = "token"


def client_of(simulator: ThreadedSimulator, endpoint: str) -> Client:
    client = Client(SID, TOKEN)
    client.api.base_url = simulator.url(endpoint)
    return client


def test_it_sends_an_sms(simulator: ThreadedSimulator) -> None:
    message = client_of(simulator, "twilio").messages.create(to="+15005550100", from_="+15005550006", body="Grüße 🙂")

    assert re.fullmatch("SM[0-9a-f]{32}", message.sid or "")
    assert message.status == "queued"
    assert (message.to, message.body, message.error_code) == ("+15005550100", "Grüße 🙂", None)


@pytest.mark.parametrize(
    ("recipient", "status", "code"),
    [("+19990010", 400, 21211), ("+19990020", 429, 20429), ("+19990030", 401, 20003), ("+19990040", 503, 20503)],
)
def test_it_understands_a_refusal(simulator: ThreadedSimulator, recipient: str, status: int, code: int) -> None:
    with pytest.raises(TwilioRestException) as refused:
        client_of(simulator, "twilio").messages.create(to=recipient, from_="+15005550006", body="x")

    assert (refused.value.status, refused.value.code) == (status, code)
