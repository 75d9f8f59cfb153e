"""Requests that wait for what becomes of their message, over two gateways and with Redis away."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import httpx
import pytest

from sluice_launcher import parent_death_signal
from sluice_launcher.process_info import free_port
from sluice_simulator.scenario import Behaviour, Rule, Scenario
from tests.polling import wait_until
from tests.system.testbed import smtp_at

pytestmark = pytest.mark.usefixtures("proven")


class Sender:
    """A project with a template, and the gateways to which its requests go in turn."""

    def __init__(self, testbed, clients, template):
        self.testbed, self.clients, self.template = testbed, clients, template

    async def send(self, number=0, path="/email/send", **changes):
        body = {"templateId": self.template, "variables": {"name": "Ada"}} | changes
        if path == "/email/send":
            body = {"to": f"user{number}@example.com"} | body
        client = self.clients[number % len(self.clients)]
        return await client.post(path, json=body, headers={"x-api-key": self.testbed.key})


@asynccontextmanager
async def a_second_gateway(system):
    """The address of another gateway of the same system."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *parent_death_signal.prefix(9),
        *(sys.executable, "-m", "gateway"),
        env=os.environ | system.gateway_environment | {"SLUICE_PORT": str(port)},
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def sender(testbed, fake_provider):
    await testbed.db.execute(
        "UPDATE projects SET default_sender = 'shop@example.com' WHERE id = $1", testbed.project.id
    )
    async with (
        a_second_gateway(testbed.system) as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as second,
    ):
        await wait_until(lambda: answers(second), within=120)
        body = {"name": "welcome", "kind": "email", "subject": "Hello {{name}}", "text": "Hello {{name}}"}
        made = await testbed.answered(
            testbed.api.post, "/v1/templates", json=body, headers={"x-sendpipe-key": testbed.key}
        )
        yield Sender(testbed, [testbed.api, second], made.json()["id"])


async def answers(client):
    try:
        return (await client.get("/openapi.json")).status_code == 200
    except httpx.TransportError:
        return False


async def test_requests_to_two_gateways_get_what_became_of_their_messages(sender, fake_provider):
    found = await asyncio.gather(*[sender.send(number) for number in range(40)])

    assert [answer.status_code for answer in found] == [200] * 40
    assert {answer.json()["provider"] for answer in found} == {"smtp"}
    assert len({answer.json()["messageId"] for answer in found}) == len(fake_provider.calls) == 40


async def test_without_redis_requests_are_answered(sender, fake_provider):
    await sender.testbed.run_command("stop", "redis")
    try:
        found = await asyncio.gather(*[sender.send(number) for number in range(40)])
    finally:
        await sender.testbed.run_command("start", "redis")

    assert [answer.status_code for answer in found] == [200] * 40
    assert len(fake_provider.calls) == 40
    assert (await sender.send()).status_code == 200


async def test_when_every_provider_fails_the_answer_has_the_last_ones_text(sender, fake_provider, simulator):
    await sender.testbed.add_provider("second", smtp_at(*simulator.address("smtp")))
    simulator.apply_scenario(Scenario(default=Rule(behaviour=Behaviour.FAULT)))

    answer = await sender.send()

    assert answer.status_code == 500
    assert answer.json()["message"].startswith("All providers failed: ")
    assert answer.json()["error"] == "Internal Server Error"
    row = await sender.testbed.db.fetchrow(
        "SELECT state, due_at, attempt_count FROM deliveries WHERE project_id = $1", sender.testbed.project.id
    )
    assert tuple(row) == ("FAILED", None, 2)
    attempt = await sender.testbed.db.fetchval(
        "SELECT error FROM attempts WHERE project_id = $1 AND number = 2", sender.testbed.project.id
    )
    assert answer.json()["message"] == f"All providers failed: {attempt}"


async def test_a_caller_that_closes_the_connection_changes_nothing(sender, fake_provider):
    hung_up = asyncio.create_task(sender.send())
    await wait_until(lambda: accepted(sender))
    hung_up.cancel()
    await asyncio.wait([hung_up])

    assert await sender.testbed.all_settled([0]) == {"SENT": 1}
    assert (await sender.send(2)).status_code == 200


async def accepted(sender):
    return await sender.testbed.db.fetchval(
        "SELECT count(*) FROM messages WHERE project_id = $1", sender.testbed.project.id
    )


async def test_a_thousand_recipients_of_whom_three_are_bad(sender, fake_provider, simulator):
    recipients = [f"user{number}@example.com" for number in range(1000)]
    recipients[1], recipients[2], recipients[3] = "no address", "user@", "a@b@c"

    answer = await sender.send(path="/email/send-bulk", recipients=recipients)

    fields = answer.json()
    assert answer.status_code == 200, answer.text[:500]
    assert fields["message"] == "Bulk email processed: 997 sent, 3 failed"
    assert [one["success"] for one in fields["results"]].count(True) == 997
    assert all(fields["results"][index]["error"] for index in (1, 2, 3))
    assert len(fake_provider.calls) == 997
