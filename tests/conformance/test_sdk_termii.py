"""python-termii, an independent client (Termii has no Python library of its own), sends through the simulator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from termii_py import TermiiClient

from sluice.providers.adapters.termii import TERMII
from sluice.providers.contract import OutboundMessage
from tests.conformance.conftest import Conforms
from tests.conformance.messages import sms_messages
from tests.conformance.simulator import ThreadedSimulator


def client_of(simulator: ThreadedSimulator, key: str = "TLkey") -> Any:
    return TermiiClient(api_key=key, base_url=simulator.url("termii"))


def test_it_sends_an_sms(simulator: ThreadedSimulator) -> None:
    sent = client_of(simulator).message.send_message(
        sent_to="2348012345678", sent_from="ACME", message="Grüße 🙂", channel="dnd", type="plain"
    )

    answer = json.loads(sent.message)
    assert (sent.status, sent.status_code, answer["code"]) == ("ok", 200, "ok")
    assert answer["message_id_str"] == str(answer["message_id"])


@pytest.mark.parametrize(
    ("code", "behaviour", "status", "text"),
    [
        ("sender", "reject", 404, "Invalid Sender ID"),
        ("balance", "reject", 400, "Insufficient balance"),
        ("route", "auth", 400, "not set up on this route"),
        (None, "throttle", 429, "Too Many Requests"),
        (None, "auth", 401, "Unauthorized"),
        (None, "fault", 503, "Service Unavailable"),
    ],
)
def test_it_understands_a_refusal(
    simulator: ThreadedSimulator, code: str | None, behaviour: str, status: int, text: str
) -> None:
    with simulator.behaving("termii", behaviour=behaviour, code=code):
        refused = client_of(simulator).message.send_message(
            sent_to="2348012345678", sent_from="ACME", message="x", channel="generic", type="plain"
        )

    assert (refused.status, refused.status_code) == ("error", status)
    assert text in json.loads(refused.message)["message"]


def test_its_request_has_the_fields_of_ours(simulator: ThreadedSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[dict[str, Any]] = []
    client = client_of(simulator)
    monkeypatch.setattr(client.message.http, "post", lambda path, json: written.append({"path": path, **json}))
    client.message.send_message(sent_to="2348012345678", sent_from="ACME", message="x", channel="dnd", type="plain")

    assert written == [
        {"path": "/api/sms/send", "to": "2348012345678", "from": "ACME", "sms": "x", "channel": "dnd", "type": "plain"}
    ]


def test_every_generated_request_has_the_documented_form(conforms: Conforms) -> None:
    def check(request: Any, message: OutboundMessage) -> None:
        fields = json.loads(request.content)
        assert set(fields) == {"api_key", "to", "from", "sms", "type", "channel"}
        assert fields["to"].isdecimal()
        assert "+" + fields["to"] == message.recipient
        assert fields["sms"] == getattr(message.content, "text", None)
        assert fields["type"] in ("plain", "unicode")

    conforms(TERMII, sms_messages(), check)
