"""Weights and prices from the API to the router's assignments, over the configuration that both read."""

from collections import Counter
from uuid import UUID

import pytest

from router.handler import RoutingHandler
from sluice.bus.messages import Assignment
from sluice.model.ids import encode_id
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from tests.examples import a_policy, a_task, seconds
from tests.polling import wait_until
from tests.services.fakes import FakeRecord

SMTP = {"host": "smtp.example.com", "port": 25}


@pytest.fixture
async def project_id(gateway):
    return await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")


async def add(gateway, project_id, **settings):
    """E-mail providers of equal priority with these settings, by name, once the router knows them."""
    for name, of_provider in settings.items():
        body = {"packageName": "provider-smtp", "name": name, "credentials": SMTP, "priority": 1}
        created = await gateway.ask("POST", "/v1/providers", json=body | {"settings": of_provider})
        assert created.status_code == 201, created.text
    await wait_until(lambda: len(gateway.config.candidates(project_id, Channel.EMAIL)) == len(settings), within=30)


async def routed(gateway, bus, project_id, count):
    """The number of deliveries that the router assigns to each provider, by name."""
    routing = RoutingHandler(
        config=gateway.config, health=gateway.health, publisher=bus, settlements=None, policy=a_policy()
    )
    ends = {"expires_at": utc_now() + seconds(3600)}
    tasks = [a_task(project_id=project_id, delivery_id=UUID(int=number), **ends) for number in range(count)]
    await routing.handle_batch([FakeRecord(task.encode(), topic="deliveries.accepted") for task in tasks])
    await routing.join()
    assigned = [Assignment.model_validate_json(value) for value in bus.on("deliveries.email")]
    return Counter(gateway.config.providers[one.provider_id].name for one in assigned)


async def test_the_cheaper_of_equals_gets_every_message_until_its_price_changes(gateway, bus, project_id):
    await add(gateway, project_id, dear={"price": 0.02}, cheap={"price": 0.01}, unknown={})

    assert await routed(gateway, bus, project_id, 20) == {"cheap": 20}

    dry_run = await gateway.ask("POST", "/v1/route/dry-run", json={"channel": "email", "to": "ada@example.com"})
    excluded = {one["provider"]["name"]: one["excluded"] for one in dry_run.json()["candidates"]}
    assert excluded == {"cheap": None, "dear": "costs 0.02, not 0.01", "unknown": "has no price"}

    [cheap] = [row for row in gateway.config.providers.values() if row.name == "cheap"]
    path = f"/v1/providers/{encode_id('prv', cheap.id)}"
    assert (await gateway.ask("PATCH", path, json={"settings": {"price": 0.03}})).status_code == 200
    await wait_until(lambda: gateway.config.providers[cheap.id].settings == {"price": 0.03}, within=30)
    bus.published.clear()
    assert await routed(gateway, bus, project_id, 20) == {"dear": 20}


async def test_equals_share_by_weight_whatever_they_cost(gateway, bus, project_id):
    """The ids of the providers are random: 200 of 4,000 deliveries are more than seven standard deviations."""
    await add(gateway, project_id, large={"weight": 3, "price": 9}, small={"weight": 1, "price": 0})

    found = await routed(gateway, bus, project_id, 4000)

    assert found.total() == 4000
    assert abs(found["large"] - 3000) < 200
