"""Weights, prices and segments on the running system: which provider gets a message, and what it has cost."""

from contextlib import asynccontextmanager
from uuid import UUID

from sluice.model import ids
from sluice.model.candidate import Candidate
from sluice.routing.shares import choose
from sluice_simulator import EndpointScenario, Scenario, Simulator
from sluice_simulator.accounts import every_account, receipt_plan
from tests.polling import wait_until

ACCOUNT = every_account()["provider-twilio"]
TWO_SEGMENTS = "a" * 161


@asynccontextmanager
async def two_accounts(testbed, **settings):
    """Two SMS accounts of equal priority with these settings, by name; their receipts say that all is delivered."""
    async with Simulator(endpoints=dict.fromkeys(settings, ACCOUNT.dialect)) as simulator:
        added, plans = {}, {}
        for name, of_provider in settings.items():
            added[name] = await testbed.add_provider(
                name,
                ACCOUNT.credentials_at(*simulator.address(name)),
                package=ACCOUNT.package,
                channel=ACCOUNT.channel,
                priority=1,
                settings=of_provider,
            )
            url = f"{testbed.system.addresses['gateway']}/v1/receipts/{ids.encode_id('prv', added[name])}"
            plans[name] = EndpointScenario(receipts=receipt_plan(bounce=False), webhooks=ACCOUNT.webhooks(url))
        simulator.apply_scenario(Scenario(endpoints=plans))
        yield added


async def delivered(testbed, count, text):
    """The messages, once their receipts have come; each with the provider and the reason of its only attempt."""
    request = {"from": None, "subject": None, **ACCOUNT.request, "text": text}
    sent = [await testbed.send(**request) for _ in range(count)]
    found = []
    for message_id in sent:

        async def look(message_id=message_id):
            message = await testbed.message(message_id)
            return message if message["status"] == "DELIVERED" else None

        found.append(await wait_until(look, 60))
    return [
        next((event["provider"]["name"], event["routing"]) for event in message["events"] if event["type"] == "sending")
        for message in found
    ], sent


async def test_the_cheaper_of_equals_sends_and_its_cost_is_reported(testbed, proven):
    async with two_accounts(testbed, dear={"price": 0.02}, cheap={"price": 0.0075}):
        taken, _ = await delivered(testbed, 4, TWO_SEGMENTS)

        async def counted():
            answer = await testbed.answered(
                testbed.api.get,
                "/v1/analytics",
                params={"channel": "sms", "group_by": "provider"},
                headers={"x-sendpipe-key": testbed.key},
            )
            totals = answer.json()["totals"]
            return totals if [total["delivered"] for total in totals] == [4] else None

        [total] = await wait_until(counted, 30)

    assert [name for name, _ in taken] == ["cheap"] * 4
    assert total["provider"]["name"] == "cheap"
    # Two segments of each of four messages.
    assert (total["cost"], total["unpriced"], total["cost_per_delivered"]) == (0.06, 0, 0.015)


async def test_a_message_goes_to_the_provider_whose_share_it_is_in(testbed, proven):
    async with two_accounts(testbed, large={"weight": 3, "price": 9}, small={"weight": 1, "price": 0}) as added:
        taken, sent = await delivered(testbed, 12, "Hi")

    candidates = [
        Candidate(added["large"], ACCOUNT.package, 1, 3.0, 9.0),
        Candidate(added["small"], ACCOUNT.package, 1, 1.0, 0.0),
    ]
    rows = await testbed.db.fetch("SELECT id, message_id FROM deliveries WHERE project_id = $1", testbed.project.id)
    delivery_of = {ids.encode_id("msg", row["message_id"]): UUID(str(row["id"])) for row in rows}
    shares = [choose(delivery_of[message_id], candidates)[0] for message_id in sent]
    assert [name for name, _ in taken] == [("large", "small")[share] for share in shares]
