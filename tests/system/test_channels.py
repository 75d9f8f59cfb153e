"""One message through every package on the running system, behind a broken sibling, and its receipts."""

from contextlib import asynccontextmanager
from typing import Any

import pytest

from sluice.model import ids
from sluice.model.message import Channel
from sluice.providers.contract import ReceiptSource
from sluice.providers.registry import PACKAGES, get_package
from sluice_simulator import Behaviour, EndpointScenario, Scenario, Simulator
from sluice_simulator.accounts import every_account, receipt_plan
from sluice_simulator.registry import DIALECTS
from tests.polling import wait_until
from tests.unit.providers.examples import sample_of

ACCOUNTS = every_account()
REAL = [name for name, package in PACKAGES.items() if len(package.channels) < len(Channel)]  # the sandbox has all


def a_case(name: str) -> Any:
    """A package; skipped only while it has no dialect."""
    missing = name not in {dialect.package for dialect in DIALECTS.values()}
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"{name} has no dialect in the simulator"))


@asynccontextmanager
async def both_accounts(testbed, name, *, bounce=False):
    """A broken account of the package and a working one behind it. The SMS link of an installation is one account:
    its sibling is one of Twilio."""
    account = ACCOUNTS[name]
    sibling = ACCOUNTS["provider-twilio"] if name == "provider-messagepipe" else account
    endpoints = {"broken": sibling.dialect, "working": account.dialect}
    ports = {"working": testbed.system.sms_link_port} if account is not sibling else {}
    async with Simulator(endpoints=endpoints, ports=ports) as simulator:
        if ports:
            await testbed.run_command("restart", "sms-worker")
        added = {}
        for place, used in (("broken", sibling), ("working", account)):
            credentials = used.credentials_at(*simulator.address(place))
            added[place] = await testbed.add_provider(place, credentials, package=used.package, channel=used.channel)
        url = f"{testbed.system.addresses['gateway']}/v1/receipts/{ids.encode_id('prv', added['working'])}"
        simulator.apply_scenario(
            Scenario(
                endpoints={
                    "broken": EndpointScenario(behaviour=Behaviour.AUTH),
                    "working": EndpointScenario(receipts=receipt_plan(bounce=bounce), webhooks=account.webhooks(url)),
                }
            )
        )
        yield simulator


async def ended(testbed, message_id, state):
    """The message in that state."""
    seen = []

    async def look():
        found = await testbed.message(message_id)
        seen[:] = [found["status"], *[(event["type"], event["detail"]) for event in found["events"]]]
        return found if found["status"] == state else None

    try:
        return await wait_until(look, 30)
    except (AssertionError, TimeoutError):
        pytest.fail(f"the message is not {state}: {seen}")


def steps(message):
    return [(event["type"], event["provider"]["name"]) for event in message["events"] if event["provider"]]


FAILED_OVER = [("sending", "broken"), ("attempt_failed", "broken"), ("sending", "working"), ("sent", "working")]


@pytest.mark.parametrize("name", [a_case(name) for name in REAL])
async def test_a_message_fails_over_and_its_receipts_deliver_it(testbed, proven, name):
    async with both_accounts(testbed, name) as simulator:
        message = await ended(testbed, await testbed.send(**request_of(name)), ACCOUNTS[name].ends)

        taken = [call["endpoint"] for call in simulator.calls if call["accepted"]]

    assert steps(message)[:4] == FAILED_OVER
    assert message["attempts"] == 2
    assert taken == ["working"]


@pytest.mark.parametrize("name", [a_case(name) for name in REAL if ACCOUNTS[name].bounces])
async def test_a_receipt_of_an_undeliverable_message_ends_it(testbed, proven, name):
    async with both_accounts(testbed, name, bounce=True):
        message = await ended(testbed, await testbed.send(**request_of(name)), ACCOUNTS[name].bounces)

    assert steps(message)[:4] == FAILED_OVER


def request_of(name):
    """The whole request: what the testbed would add is removed."""
    return {"from": None, "subject": None, "text": None, **ACCOUNTS[name].request}


def test_an_account_delivers_where_its_package_has_receipts():
    """Amazon SNS has receipts only through the operator's own log subscription, which the simulator imitates."""
    facts = {name: get_package(name).receipts is not ReceiptSource.NONE for name in REAL}

    assert {name: ACCOUNTS[name].delivers for name in REAL} == {**facts, "provider-sns": True}


async def test_a_push_to_a_topic_fails_over(testbed, proven):
    async with both_accounts(testbed, "provider-fcm"):
        request = {**request_of("provider-fcm"), "to": ["topic:news"]}
        message = await ended(testbed, await testbed.send(**request), "SENT")

    assert steps(message)[:4] == FAILED_OVER


async def test_metas_handshake_is_answered_by_the_gateway(testbed):
    sample = sample_of(get_package("provider-meta-cloud")).credentials
    provider = await testbed.add_provider("meta", sample, package="provider-meta-cloud", channel=Channel.WHATSAPP)
    path = f"/v1/receipts/{ids.encode_id('prv', provider)}"
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": sample["verifyToken"]}

    async def known():
        answer = await testbed.api.get(path, params=query)
        return None if answer.status_code == 404 else answer

    answer = await wait_until(known, 10)
    forged = await testbed.api.get(path, params={**query, "hub.verify_token": "x"})

    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    assert forged.status_code == 401
