"""Receipts of the fake providers: the packages believe genuine ones and refuse forged ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sluice.model.state import EventType
from sluice.providers.adapters import resend, twilio_sms
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    OutboundMessage,
    WebhookRequest,
)
from sluice.runtime.clock import utc_now
from sluice.transports.http import HttpTransport
from sluice_simulator import (
    Behaviour,
    EndpointScenario,
    Forgery,
    Receipts,
    Rule,
    Scenario,
    Simulator,
    Webhook,
    webhook_sender,
)
from sluice_simulator.dialect import FakeRequest
from sluice_simulator.dialects.resend import UNTAGGED
from tests.polling import virtual_time
from tests.simulator.conftest import (
    WEBHOOK_SECRET,
    SimulatorClient,
    WebhookInbox,
    resend_credentials,
    twilio_credentials,
)
from tests.unit.providers.examples import an_email, an_sms, outbound


def a_scenario(inbox: WebhookInbox, do: Behaviour = Behaviour.ACCEPT, **plan: Any) -> Scenario:
    webhook = Webhook(url=inbox.url, secret=WEBHOOK_SECRET)
    return Scenario(
        default=Rule(behaviour=do, receipts=Receipts.model_validate({"delay": 0, "interval": 0.001, **plan})),
        endpoints={"resend": EndpointScenario(webhooks={"*": webhook})},
    )


def an_sms_to_us(inbox: WebhookInbox, **changes: str) -> OutboundMessage:
    return outbound(an_sms(), callback_url=inbox.url, **changes)


def as_request(inbox: WebhookInbox, call: FakeRequest, *, query: str = "") -> WebhookRequest:
    headers = {name.decode(): value.decode("latin-1") for name, value in call.headers.items()}
    return WebhookRequest(call.method, inbox.url + query, headers, call.body, utc_now())


def of_resend(simulator: Simulator, inbox: WebhookInbox, call: FakeRequest) -> list[DeliveryReceipt]:
    return resend.parse_webhook(as_request(inbox, call), resend_credentials(simulator), {}).receipts


def of_twilio(simulator: Simulator, inbox: WebhookInbox, call: FakeRequest) -> list[DeliveryReceipt]:
    request = as_request(inbox, call, query="?ref=att_01HX")
    return twilio_sms.parse_webhook(request, twilio_credentials(simulator), {}).receipts


KINDS = ("sent", "delivered", "bounced", "soft_bounce", "failed")


async def test_resends_receipts_are_genuine_and_name_the_attempt_or_the_mail(
    http: HttpTransport, inbox: WebhookInbox
) -> None:
    kinds = (*KINDS, "complained", "deferred", "opened", "clicked")
    async with Simulator(a_scenario(inbox, kinds=kinds)) as simulator:
        answer = await SimulatorClient(simulator, http).email()
        await simulator.webhook_sender.wait_idle()

        found = [receipt for call in inbox.calls for receipt in of_resend(simulator, inbox, call)]

    references = {receipt.type: receipt.reference for receipt in found}
    assert sorted(receipt.type for receipt in found) == sorted(EventType(kind) for kind in kinds)
    assert {kind for kind, reference in references.items() if reference is None} == UNTAGGED
    assert set(references.values()) == {"att_01HX", None}
    assert {receipt.provider_message_id for receipt in found} == {answer.json()["id"]}


async def test_twilios_receipts_are_genuine_and_name_the_attempt(http: HttpTransport, inbox: WebhookInbox) -> None:
    async with Simulator(a_scenario(inbox, kinds=KINDS)) as simulator:
        answer = await SimulatorClient(simulator, http).sms(an_sms_to_us(inbox))
        await simulator.webhook_sender.wait_idle()

        found = [receipt for call in inbox.calls for receipt in of_twilio(simulator, inbox, call)]

    assert sorted(receipt.type for receipt in found) == sorted(EventType(kind) for kind in KINDS)
    assert {receipt.reference for receipt in found} == {"att_01HX"}
    assert {receipt.provider_message_id for receipt in found} == {answer.json()["sid"]}


@pytest.mark.parametrize("forgery", Forgery)
async def test_a_forged_receipt_of_resend_is_not_believed(
    http: HttpTransport, inbox: WebhookInbox, forgery: Forgery
) -> None:
    async with Simulator(a_scenario(inbox, kinds=(), forged=(forgery,))) as simulator:
        await SimulatorClient(simulator, http).email()
        await simulator.webhook_sender.wait_idle()

        (call,) = inbox.calls
        with pytest.raises(InvalidReceiptSignatureError):
            of_resend(simulator, inbox, call)


@pytest.mark.parametrize("forgery", Forgery)
async def test_a_forged_receipt_of_twilio_is_not_believed(
    http: HttpTransport, inbox: WebhookInbox, forgery: Forgery
) -> None:
    async with Simulator(a_scenario(inbox, kinds=(), forged=(forgery,))) as simulator:
        await SimulatorClient(simulator, http).sms(an_sms_to_us(inbox))
        await simulator.webhook_sender.wait_idle()

        (call,) = inbox.calls
        with pytest.raises(InvalidReceiptSignatureError):
            of_twilio(simulator, inbox, call)


async def test_duplicates_have_the_same_receipt_id(http: HttpTransport, inbox: WebhookInbox) -> None:
    async with Simulator(a_scenario(inbox, kinds=("sent", "delivered"), copies=5)) as simulator:
        await SimulatorClient(simulator, http).email()
        await simulator.webhook_sender.wait_idle()

        found = [receipt.receipt_id for call in inbox.calls for receipt in of_resend(simulator, inbox, call)]

    assert len(found) == 10
    assert len(set(found)) == 2


async def test_a_receipt_is_repeated_until_it_is_taken(
    http: HttpTransport, inbox: WebhookInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "RETRY_DELAYS", (0.001,) * 5)
    inbox.statuses = [500, 503, 302]
    async with Simulator(a_scenario(inbox, kinds=("delivered",))) as simulator:
        await SimulatorClient(simulator, http).email()
        await simulator.webhook_sender.wait_idle()

        ids = {of_resend(simulator, inbox, call)[0].receipt_id for call in inbox.calls}
        assert len(inbox.calls) == 4
        assert len(ids) == 1
        assert [line["status"] for line in simulator.webhook_log.lines] == [500, 503, 302, 204]


async def test_the_receipt_log_marks_the_forged(http: HttpTransport, inbox: WebhookInbox) -> None:
    inbox.statuses = [204, 204]
    plan: dict[str, Any] = {"kinds": ("sent", "delivered"), "forged": ("wrong-key",), "interval": 0.05}
    async with Simulator(a_scenario(inbox, **plan)) as simulator:
        await SimulatorClient(simulator, http).email()
        await simulator.webhook_sender.wait_idle()

        assert {(line["kind"], line["forged"], line["reference"]) for line in simulator.webhook_log.lines} == {
            ("sent", None, "att_01HX"),
            ("delivered", None, "att_01HX"),
            ("bounced", "wrong-key", "att_01HX"),
        }


async def test_receipts_may_come_in_any_order(http: HttpTransport, inbox: WebhookInbox) -> None:
    orders = set()
    plan: dict[str, Any] = {"kinds": ("sent", "delivered", "opened", "clicked"), "shuffle": True, "interval": 0.01}
    async with Simulator(a_scenario(inbox, **plan)) as simulator:
        for number in range(4):
            to = f"{number}@example.org"
            message = outbound(an_email(to=(to,)), reference=f"att_{number}")
            await SimulatorClient(simulator, http).email(message)
            await simulator.webhook_sender.wait_idle()
            orders.add(tuple(str(line["kind"]) for line in list(simulator.webhook_log.lines)[-4:]))

    assert len(orders) > 1


async def test_a_receipt_may_come_before_the_answer(http: HttpTransport, inbox: WebhookInbox) -> None:
    scenario = a_scenario(inbox, kinds=("delivered",), before_answer=True)
    slow = scenario.model_copy(
        update={"default": Rule.model_validate({**scenario.default.model_dump(), "latency": {"median": 5}})}
    )
    async with Simulator(slow) as simulator:
        call = asyncio.create_task(SimulatorClient(simulator, http).email())

        await inbox.arrived.wait()

        assert not call.done()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


@pytest.mark.parametrize("do", [Behaviour.REJECT, Behaviour.FAULT, Behaviour.RESET, Behaviour.HANG])
async def test_no_receipt_follows_a_message_that_was_not_taken(
    http: HttpTransport, inbox: WebhookInbox, do: Behaviour
) -> None:
    async with Simulator(a_scenario(inbox, do=do)) as simulator:
        request = resend.build(outbound(an_email()), resend_credentials(simulator))
        with virtual_time():
            await asyncio.gather(http.exchange(request, deadline=0.5), return_exceptions=True)
        await simulator.webhook_sender.wait_idle()

    assert inbox.calls == []
