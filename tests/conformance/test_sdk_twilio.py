"""Twilio's own library sends through the simulator's dialects, understands their errors, verifies their callbacks."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from tests.conformance.simulator import Inbox, ThreadedSimulator

SID = "AC" + "0" * 32
TOKEN = "token"
SENDERS = {"twilio": "+15005550006", "twilio-whatsapp": "whatsapp:+15550001111"}
every_channel = pytest.mark.parametrize("endpoint", SENDERS)


def create(simulator: ThreadedSimulator, endpoint: str, recipient: str = "+15005550100", **fields: Any) -> Any:
    client = Client(SID, TOKEN)
    client.api.base_url = simulator.url(endpoint)
    prefix = "whatsapp:" if endpoint == "twilio-whatsapp" else ""
    return client.messages.create(to=prefix + recipient, from_=SENDERS[endpoint], **fields)


@every_channel
def test_it_sends_a_text(simulator: ThreadedSimulator, endpoint: str) -> None:
    message = create(simulator, endpoint, body="Grüße 🙂")

    assert re.fullmatch("SM[0-9a-f]{32}", message.sid)
    assert message.status == "queued"
    assert (message.from_, message.body, message.error_code) == (SENDERS[endpoint], "Grüße 🙂", None)


def test_it_sends_a_content_template(simulator: ThreadedSimulator) -> None:
    variables = json.dumps({"1": "Ann", "2": "A-17"})

    message = create(simulator, "twilio-whatsapp", content_sid="HX" + "a" * 32, content_variables=variables)

    assert re.fullmatch("MM[0-9a-f]{32}", message.sid)


@every_channel
@pytest.mark.parametrize(
    ("behaviour", "code", "status"),
    [
        *[("reject", 21211, 400), ("reject", 21610, 400), ("reject", 21408, 400)],
        *[("throttle", 20429, 429), ("auth", 20003, 401), ("fault", 20503, 503)],
    ],
)
def test_it_understands_a_refusal(
    simulator: ThreadedSimulator, endpoint: str, behaviour: str, code: int, status: int
) -> None:
    with (
        simulator.behaving(endpoint, behaviour=behaviour, code=str(code)),
        pytest.raises(TwilioRestException) as refused,
    ):
        create(simulator, endpoint, body="x")

    assert (refused.value.status, refused.value.code) == (status, code)


@every_channel
def test_it_verifies_a_callback(simulator: ThreadedSimulator, endpoint: str, inbox: Inbox) -> None:
    callback = f"{inbox.url}?ref=att_1"
    with simulator.behaving(endpoint, receipts={"kinds": ["sent", "delivered", "failed"], "delay": 0}):
        message = create(simulator, endpoint, body="x", status_callback=callback)

    assert len(inbox.calls) == 3
    for headers, body in inbox.calls:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
        signature = headers["x-twilio-signature"]
        assert fields["MessageSid"] == message.sid
        assert RequestValidator(TOKEN).validate(callback, fields, signature)
        assert not RequestValidator("other").validate(callback, fields, signature)
