"""The built-in SMS package over the installation's SMPP link, in the real sms-worker."""

from contextlib import asynccontextmanager

import pytest

from sluice.model.message import Channel
from sluice.providers.registry import get_package
from sluice_simulator import EndpointScenario, Receipts, Scenario, Simulator
from tests.polling import wait_until
from tests.unit.providers.examples import sample_of

SMS = {"channel": "sms", "from": "ACME", "subject": None, "to": ["+15557654321"]}
NOWHERE = "http://127.0.0.1:1"
DELIVERED = Scenario(endpoints={"smpp": EndpointScenario(receipts=Receipts(kinds=("sent", "delivered"), delay=0.3))})


@asynccontextmanager
async def bound(testbed, scenario=DELIVERED):
    """A simulator to which the restarted sms-worker is bound."""
    async with Simulator(
        scenario, endpoints={"smpp": "smpp", "twilio": "twilio"}, ports={"smpp": testbed.system.sms_link_port}
    ) as simulator:
        await testbed.run_command("restart", "sms-worker")
        yield simulator


async def add_twilio(testbed, address):
    credentials = {**sample_of(get_package("provider-twilio")).credentials, "baseUrl": address}
    await testbed.add_provider("twilio", credentials, package="provider-twilio", channel=Channel.SMS)


async def add_link(testbed):
    await testbed.add_provider("link", {}, package="provider-messagepipe", channel=Channel.SMS)


def steps(message):
    return [(event["type"], event["provider"]["name"]) for event in message["events"] if event["provider"]]


@pytest.mark.parametrize("text", ["Your code is 1234", "Grüße und 😀 " * 20])
async def test_a_text_fails_over_to_the_link_and_its_receipts_deliver_it(testbed, proven, text):
    async with bound(testbed) as simulator:
        await add_twilio(testbed, NOWHERE)
        await add_link(testbed)

        message_id = await testbed.send(**SMS, text=text)

        async def delivered():
            found = await testbed.message(message_id)
            return found if found["status"] == "DELIVERED" else None

        message = await wait_until(delivered, 30)
        assert [call["recipient"] for call in simulator.calls] == ["+15557654321"]
    assert steps(message)[:4] == [
        ("sending", "twilio"),
        ("attempt_failed", "twilio"),
        ("sending", "link"),
        ("sent", "link"),
    ]


async def test_while_the_smsc_is_away_texts_fail_over_to_another_provider(testbed, proven):
    async with bound(testbed):
        pass  # bound once: the worker keeps its slot
    async with Simulator(endpoints={"twilio": "twilio"}) as simulator:
        await add_link(testbed)
        await add_twilio(testbed, simulator.url("twilio"))

        message = await testbed.settled(await testbed.send(**SMS, text="Hello"))

        assert message["status"] == "SENT"
        assert steps(message)[:4] == [
            ("sending", "link"),
            ("attempt_failed", "link"),
            ("sending", "twilio"),
            ("sent", "twilio"),
        ]


async def test_after_an_outage_of_the_smsc_the_link_binds_again(testbed, proven):
    async with bound(testbed):
        pass
    await add_link(testbed)
    message_id = await testbed.send(**SMS, text="Hello")
    port = testbed.system.sms_link_port
    async with Simulator(DELIVERED, endpoints={"smpp": "smpp"}, ports={"smpp": port}):

        async def delivered():
            return (await testbed.message(message_id))["status"] == "DELIVERED"

        await wait_until(delivered, 40)
