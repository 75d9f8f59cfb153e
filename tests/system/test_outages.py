"""Outages: an acknowledged message is delivered, a rejected one does not exist."""

import asyncio
import os
import signal

import httpx
import psutil
import pytest

from sluice_simulator.scenario import Latency, Rule, Scenario
from tests.polling import wait_until
from tests.system.testbed import smtp_at

pytestmark = pytest.mark.usefixtures("proven")

SLOWLY = Scenario(default=Rule(latency=Latency(median=0.1, sigma=0.5)))


def calls_by_message(simulator):
    counts = {}
    for call in simulator.calls:
        counts[call["message_id"]] = counts.get(call["message_id"], 0) + 1
    return counts


async def unknown_attempts_of(testbed):
    return await testbed.db.fetchval(
        "SELECT sum(unknown_attempts) FROM deliveries WHERE project_id = $1", testbed.project.id
    )


async def test_without_kafka_requests_succeed_and_are_delivered_after_it_returns(testbed, fake_provider):
    await testbed.run_command("stop", "kafka")

    ids = await testbed.send_many(30)
    await testbed.run_command("start", "kafka")

    assert await testbed.all_settled(ids) == {"SENT": 30}
    assert len(calls_by_message(fake_provider)) == 30


async def test_without_postgres_requests_are_rejected_and_nothing_is_accepted(testbed, fake_provider):
    await testbed.run_command("stop", "postgres")

    answers = await asyncio.gather(*[testbed.post(subject=f"Number {number}") for number in range(30)])
    await testbed.run_command("start", "postgres")

    assert [answer.status_code for answer in answers] == [503] * 30
    assert {answer.json()["error"]["code"] for answer in answers} == {"UNAVAILABLE"}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    after = await wait_until(lambda: accepted_again(testbed))
    await testbed.all_settled([after])
    assert list(calls_by_message(fake_provider)) == [after]


async def accepted_again(testbed):
    """The id of a message that was accepted after an outage; None while it lasts."""
    answer = await testbed.post()
    assert answer.status_code in (201, 503), answer.text
    return answer.json().get("id")


async def test_while_postgres_hangs_requests_are_rejected_and_nothing_is_sent(testbed, fake_provider):
    await testbed.settled(await testbed.send())
    frozen = await asyncio.to_thread(processes_of, await testbed.pid("postgres"))
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        answers = await asyncio.gather(*[testbed.post(subject=f"Number {number}") for number in range(30)])
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)

    assert {answer.status_code for answer in answers} == {503}
    after = await wait_until(lambda: accepted_again(testbed))
    assert await testbed.all_settled([after]) == {"SENT": 2}
    assert len(fake_provider.calls) == 2


def processes_of(pid):
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


@pytest.mark.parametrize("role", ["email-worker", "router"])
async def test_a_role_killed_among_two_hundred_messages_loses_none(testbed, fake_provider, role):
    fake_provider.apply_scenario(SLOWLY)
    ids = await testbed.send_many(200)
    await wait_until(lambda: len(fake_provider.calls) >= 30)

    os.kill(await testbed.pid(role), signal.SIGKILL)

    assert await testbed.all_settled(ids) == {"SENT": 200}
    calls = calls_by_message(fake_provider)
    assert set(calls) == set(ids)
    assert sum(calls.values()) <= 200 + await unknown_attempts_of(testbed)


async def test_a_gateway_killed_while_it_accepts_makes_one_message_for_each_key(testbed, fake_provider):
    async def insist(number):
        """The response to a request that is repeated until it has one."""

        async def ask():
            order = {"idempotency_key": f"order {number}", "subject": f"Number {number}"}
            try:
                return await testbed.answered(testbed.post, **order)
            except httpx.TransportError:
                return None

        return await wait_until(ask, 30)

    asking = [asyncio.create_task(insist(number)) for number in range(100)]
    await wait_until(lambda: sum(task.done() for task in asking) >= 20)

    os.kill(await testbed.pid("gateway"), signal.SIGKILL)

    answers = await asyncio.gather(*asking)
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 100
    assert await testbed.all_settled(ids) == {"SENT": 100}
    assert set(calls_by_message(fake_provider)) == ids


async def test_a_wiped_kafka_loses_nothing(testbed, fake_provider):
    fake_provider.apply_scenario(SLOWLY)
    ids = await testbed.send_many(100)

    await testbed.run_command("restart", "kafka", wipe=True)

    assert await testbed.all_settled(ids, within=90) == {"SENT": 100}
    assert set(calls_by_message(fake_provider)) == set(ids)


async def test_without_redis_messages_are_delivered(testbed, fake_provider):
    await testbed.run_command("stop", "redis")

    message = await testbed.settled(await testbed.send())
    await testbed.run_command("start", "redis")

    assert message["status"] == "SENT"


async def test_a_graceful_restart_of_a_worker_leaves_no_unknown_attempt(testbed, fake_provider):
    fake_provider.apply_scenario(SLOWLY)
    ids = await testbed.send_many(100)
    await wait_until(lambda: len(fake_provider.calls) >= 20)

    await testbed.run_command("restart", "email-worker")

    assert await testbed.all_settled(ids) == {"SENT": 100}
    assert await unknown_attempts_of(testbed) == 0
    assert calls_by_message(fake_provider) == dict.fromkeys(ids, 1)


async def test_after_an_unknown_outcome_another_provider_sends_it_and_the_history_shows_it(
    testbed, fake_provider, mailbox
):
    message = await testbed.settled(await testbed.send(to=["accept-then-never-answer+ada@example.com"]))

    (unknown,) = [event for event in message["events"] if "a duplicate is possible" in event["detail"]]
    assert (message["status"], unknown["provider"]["name"]) == ("SENT", "simulator")
    assert (message["provider"]["name"], await unknown_attempts_of(testbed)) == ("mailbox-smtp", 1)


async def test_an_unresponsive_provider_is_degraded_before_the_timeout(testbed, simulator, mailbox):
    fake_provider = smtp_at(*simulator.address("smtp"))
    unresponsive = await testbed.add_provider("unresponsive", fake_provider, priority=-1, settings={"concurrency": 2})

    async def two_calls_hang():
        """Whether two calls are at the provider; a message that came before the router knew it is sent by another."""
        await testbed.send(to=["hang+ada@example.com"])
        return len(simulator.calls) >= 2

    async def degraded():
        answer = await asyncio.to_thread(httpx.get, f"{testbed.system.addresses['health']}/v1/health/providers")
        return [one for one in answer.json() if one["provider_id"] == str(unresponsive) and one["status"] == "degraded"]

    await wait_until(two_calls_hang)
    hanging = list(calls_by_message(simulator))
    (health,) = await wait_until(degraded, within=9)  # a call has 10 s
    message = await testbed.settled(await testbed.send())

    assert health["reason"] == "unresponsive: no call ends"
    assert message["provider"]["name"] == "mailbox-smtp"
    assert [(await testbed.message(one))["status"] for one in hanging] == ["SENDING"] * 2


async def test_class_once_is_not_retried_after_an_unknown_outcome(testbed, fake_provider):
    body = {"to": ["accept-then-never-answer+ada@example.com"], "class": "once"}

    message = await testbed.settled(await testbed.send(**body))

    assert (message["status"], len(fake_provider.calls)) == ("UNCONFIRMED", 1)
