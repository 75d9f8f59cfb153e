"""Every request of the Signal package fits the description of signal-cli-rest-api, and so do the dialect's answers."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import strategies as st

from sluice.model.message import ChatMessage
from sluice.providers.contract import OutboundMessage
from sluice.providers.registry import get_package
from sluice_simulator import EndpointScenario
from sluice_simulator.dialect import Answered, FakeRequest, ParsedSend, ReceiptContext
from sluice_simulator.dialects.signal import SIGNAL as DIALECT
from sluice_simulator.dialects.signal import respond
from sluice_simulator.scenario import Behaviour
from tests.conformance.conftest import Conforms, spec
from tests.conformance.messages import NUMBERS, chat_messages
from tests.unit.providers.examples import NOON, content_for, credentials_of, outbound

PACKAGE = get_package("provider-signal")
SEND = spec("signal", {"$ref": "#/$defs/api.SendMessageV2"})
RECIPIENTS = NUMBERS | st.uuids().map(str) | st.from_regex(r"\Agroup\.[A-Za-z0-9+/]{20,60}=\Z") | st.just("ann.07")


def test_every_request_fits_the_description(conforms: Conforms) -> None:
    def check(request: httpx.Request, message: OutboundMessage) -> None:
        assert isinstance(message.content, ChatMessage)
        body = json.loads(request.content)
        SEND.validate(body)
        assert (body["message"], body["recipients"]) == (message.content.text, [message.recipient])

    conforms(PACKAGE, chat_messages("signal", RECIPIENTS), check)


def a_send() -> ParsedSend:
    request = PACKAGE.build(outbound(content_for(PACKAGE)), credentials_of(PACKAGE))
    assert DIALECT.read
    send = DIALECT.read(FakeRequest("POST", "/v2/send", {}, request.content))
    assert isinstance(send, ParsedSend)
    return send


@pytest.mark.parametrize(
    ("behaviour", "schema"),
    [(Behaviour.ACCEPT, "SendMessageResponse"), (Behaviour.THROTTLE, "SendMessageError")],
)
def test_the_dialects_answers_fit_it(behaviour: Behaviour, schema: str) -> None:
    answer = respond(behaviour, a_send(), EndpointScenario())

    spec("signal", {"$ref": f"#/$defs/api.{schema}"}).validate(json.loads(answer.body))


def test_the_dialects_facts_about_itself_fit_it() -> None:
    assert DIALECT.read
    answer = DIALECT.read(FakeRequest("GET", "/v1/about", {}, b""))

    assert isinstance(answer, Answered)
    spec("signal", {"$ref": "#/$defs/client.About"}).validate(json.loads(answer.response.body))


@pytest.mark.parametrize("kind", ["delivered", "read", "inbound"])
def test_the_dialects_notifications_fit_it(kind: str) -> None:
    scenario = EndpointScenario.model_validate({"webhooks": {"*": {"url": "http://127.0.0.1/x", "secret": "x"}}})
    assert DIALECT.receipts

    payload = DIALECT.receipts.write(ReceiptContext(a_send(), kind, "r1", NOON, scenario, DIALECT.dashboard()))

    assert payload is not None
    spec("signal", {"$ref": "#/$defs/data.Message"}).validate(json.loads(payload.body)["params"])
