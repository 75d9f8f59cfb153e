"""Infobip's own library sends through the simulator's dialect, understands its errors, and reads its receipts.

Its models are generated from Infobip's OpenAPI description, so that they also validate our requests.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from infobip_api_client.api.sms_api import SmsApi
from infobip_api_client.api_client import ApiClient
from infobip_api_client.configuration import Configuration
from infobip_api_client.exceptions import ApiException
from infobip_api_client.models.sms_delivery_result import SmsDeliveryResult
from infobip_api_client.models.sms_destination import SmsDestination
from infobip_api_client.models.sms_message import SmsMessage
from infobip_api_client.models.sms_message_content import SmsMessageContent
from infobip_api_client.models.sms_request import SmsRequest
from infobip_api_client.models.sms_text_content import SmsTextContent

from sluice.providers.adapters.infobip import INFOBIP
from sluice.providers.contract import OutboundMessage
from sluice.runtime.clock import utc_now
from sluice_simulator import EndpointScenario
from sluice_simulator.dialect import NoDashboard, ParsedSend, ReceiptContext
from sluice_simulator.dialects.infobip import INFOBIP as DIALECT
from sluice_simulator.dialects.infobip import RECEIPTS
from tests.conformance.conftest import Conforms
from tests.conformance.messages import sms_messages
from tests.conformance.simulator import ThreadedSimulator


def api_of(simulator: ThreadedSimulator) -> SmsApi:
    return SmsApi(ApiClient(Configuration(host=simulator.url("infobip"), api_key="key")))


def a_request(to: str = "2348012345678", message_id: str | None = None) -> SmsRequest:
    content = SmsMessageContent(SmsTextContent(text="Grüße 🙂"))
    destination = SmsDestination(to=to, message_id=message_id)
    return SmsRequest(messages=[SmsMessage(sender="ACME", destinations=[destination], content=content)])


def test_it_sends_an_sms(simulator: ThreadedSimulator) -> None:
    answer = api_of(simulator).send_sms_messages(a_request(message_id="sdk-1"))

    (message,) = answer.messages
    assert (message.message_id, message.destination) == ("sdk-1", "2348012345678")
    assert message.status is not None
    assert (message.status.id, message.status.group_name) == (26, "PENDING")


def test_it_reads_that_a_repeated_id_is_a_duplicate(simulator: ThreadedSimulator) -> None:
    api = api_of(simulator)
    first, again = (api.send_sms_messages(a_request(message_id="sdk-2")).messages[0].status for _ in range(2))

    assert first is not None
    assert again is not None
    assert (first.id, again.id, again.name) == (26, 23, "REJECTED_DUPLICATE_MESSAGE_ID")


@pytest.mark.parametrize(
    ("behaviour", "code", "status"), [("reject", None, 52), ("fault", None, 21), ("reject", "11", 11)]
)
def test_it_reads_a_refused_message(
    simulator: ThreadedSimulator, behaviour: str, code: str | None, status: int
) -> None:
    with simulator.behaving("infobip", behaviour=behaviour, code=code):
        (message,) = api_of(simulator).send_sms_messages(a_request()).messages

    assert message.status is not None
    assert (message.status.id, message.status.group_name) == (status, "REJECTED")


@pytest.mark.parametrize(
    ("behaviour", "code", "status", "error"),
    [("auth", None, 401, "E401"), ("throttle", None, 429, "E429"), ("fault", "E500", 500, "E500")],
)
def test_it_understands_a_refusal(
    simulator: ThreadedSimulator, behaviour: str, code: str | None, status: int, error: str
) -> None:
    with simulator.behaving("infobip", behaviour=behaviour, code=code), pytest.raises(ApiException) as refused:
        api_of(simulator).send_sms_messages(a_request())

    assert refused.value.status == status
    assert json.loads(refused.value.body or "")["errorCode"] == error


@pytest.mark.parametrize("kind", RECEIPTS)
def test_it_reads_the_receipts_of_the_dialect(kind: str) -> None:
    assert DIALECT.receipts is not None
    send = ParsedSend(
        "+234", "att_1", callback="https://h.test/r?token=t", fields={"to": "234", "sender": "A", "bulk": "1"}
    )
    context = ReceiptContext(send, kind, "r1", utc_now(), EndpointScenario(), NoDashboard())

    payload = DIALECT.receipts.write(context)

    assert payload is not None
    assert (payload.url, payload.secret) == ("https://h.test/r", "t")
    body = json.loads(payload.body)
    result = SmsDeliveryResult.from_dict(body)
    assert result is not None
    (report,) = result.results or []
    assert (report.message_id, report.to) == ("att_1", "234")
    assert set(body["results"][0]) == set(report.to_dict())  # no field that the description does not have


def test_every_generated_request_is_one_of_the_description(conforms: Conforms) -> None:
    def check(request: Any, message: OutboundMessage) -> None:
        body = json.loads(request.content)
        read = SmsRequest.from_dict(body)
        assert read is not None
        written = read.to_dict()
        for one in written["messages"]:  # defaults that the library adds
            if "webhooks" in one:
                one["webhooks"]["delivery"].pop("intermediateReport", None)
        assert written == body
        assert len(body["messages"][0]["destinations"][0]["messageId"]) <= 200

    conforms(INFOBIP, sms_messages(), check)
