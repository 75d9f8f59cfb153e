"""Africa's Talking's own library sends through the simulator's dialect, and understands its errors."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import pytest
from africastalking.Service import AfricasTalkingException
from africastalking.SMS import SMSService

from sluice.providers.adapters.africastalking import AFRICASTALKING
from sluice.providers.contract import OutboundMessage
from tests.conformance.conftest import Conforms
from tests.conformance.messages import sms_messages
from tests.conformance.simulator import ThreadedSimulator

NUMBER = "+254711000001"


def client_of(simulator: ThreadedSimulator, username: str = "acme") -> Any:
    client = SMSService(username, "atsk_1")
    client._baseUrl = simulator.url("africastalking") + "/version1"
    return client


@pytest.mark.parametrize(("enqueue", "code"), [(False, 101), (True, 102)])
def test_it_sends_an_sms(simulator: ThreadedSimulator, enqueue: bool, code: int) -> None:
    answer = client_of(simulator).send("Grüße 🙂", [NUMBER], sender_id="ACME", enqueue=enqueue)

    (entry,) = answer["SMSMessageData"]["Recipients"]
    assert answer["SMSMessageData"]["Message"].startswith("Sent to 1/1")
    assert (entry["statusCode"], entry["status"], entry["number"]) == (code, "Success", NUMBER)
    assert re.fullmatch("ATXid_[0-9a-f]{32}", entry["messageId"])


@pytest.mark.parametrize(
    ("behaviour", "code", "number"),
    [("reject", None, 403), ("reject", "UserInBlacklist", 406), ("fault", None, 500), ("auth", "RiskHold", 401)],
)
def test_it_reads_a_refused_recipient(
    simulator: ThreadedSimulator, behaviour: str, code: str | None, number: int
) -> None:
    with simulator.behaving("africastalking", behaviour=behaviour, code=code):
        answer = client_of(simulator).send("x", [NUMBER])

    (entry,) = answer["SMSMessageData"]["Recipients"]
    assert (entry["statusCode"], entry["messageId"], entry["cost"]) == (number, "None", "0")


def test_it_reads_a_refused_sender(simulator: ThreadedSimulator) -> None:
    with simulator.behaving("africastalking", behaviour="reject", code="no-recipients:InvalidSenderId"):
        answer = client_of(simulator).send("x", [NUMBER], sender_id="NOPE")

    assert answer == {"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [("auth", "The supplied authentication is invalid"), ("throttle", "Too many requests")],
)
def test_it_understands_a_refusal(simulator: ThreadedSimulator, behaviour: str, text: str) -> None:
    with (
        simulator.behaving("africastalking", behaviour=behaviour),
        pytest.raises(AfricasTalkingException, match=text),
    ):
        client_of(simulator).send("x", [NUMBER])


def test_our_request_is_the_librarys(simulator: ThreadedSimulator, conforms: Conforms) -> None:
    client, written = client_of(simulator), []
    client._make_request = lambda url, method, **options: written.append((method, options))

    def check(request: Any, message: OutboundMessage) -> None:
        client.send(message.content.text, [message.recipient], sender_id="ACME")
        method, options = written.pop()
        expected = {name: str(value) for name, value in options["data"].items()}
        assert dict(parse_qsl(request.content.decode(), keep_blank_values=True)) == expected
        assert request.method == method
        assert request.headers["accept"] == options["headers"]["Accept"]
        assert set(map(str.lower, options["headers"])) - {"user-agent"} <= set(request.headers)

    conforms(AFRICASTALKING, sms_messages(), check)
