"""Whatever dies: what was acknowledged is delivered, and what was not is not there."""

import asyncio
import os
import signal

import httpx
import psutil
import pytest

from sluice_simulator.scenario import Rule, Script, Slow
from tests.polling import until
from tests.system.testbed import smtp_at

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("proven")]

SLOWLY = Script(default=Rule(slow=Slow(median=0.1, sigma=0.5)))


def calls_by_message(simulator):
    counts = {}
    for call in simulator.calls:
        counts[call["message_id"]] = counts.get(call["message_id"], 0) + 1
    return counts


async def ambiguous_of(world):
    return await world.db.fetchval("SELECT sum(ambiguous) FROM deliveries WHERE project_id = $1", world.project.id)


async def test_without_kafka_requests_succeed_and_are_delivered_after_it_returns(world, far_end):
    await world.operate("stop", "kafka")

    answers = await asyncio.gather(*[world.post(subject=f"Number {number}") for number in range(30)])
    await world.operate("start", "kafka")

    assert [answer.status_code for answer in answers] == [201] * 30
    assert await world.all_settled(answers) == {"SENT": 30}
    assert len(calls_by_message(far_end)) == 30


async def test_without_postgres_requests_are_refused_and_nothing_is_accepted(world, far_end):
    await world.operate("stop", "postgres")

    answers = await asyncio.gather(*[world.post(subject=f"Number {number}") for number in range(30)])
    await world.operate("start", "postgres")

    assert [answer.status_code for answer in answers] == [503] * 30
    assert {answer.json()["error"]["code"] for answer in answers} == {"UNAVAILABLE"}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    after = await until(lambda: accepted_again(world))
    await world.all_settled([after])
    assert list(calls_by_message(far_end)) == [after]


async def accepted_again(world):
    """The id of a message that was accepted after an outage; None while it lasts."""
    answer = await world.post()
    assert answer.status_code in (201, 503), answer.text
    return answer.json().get("id")


async def test_while_postgres_hangs_requests_are_refused_and_nothing_is_sent(world, far_end):
    await world.settled(await world.send())
    frozen = await asyncio.to_thread(processes_of, await world.pid("postgres"))
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        answers = await asyncio.gather(*[world.post(subject=f"Number {number}") for number in range(30)])
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)

    assert {answer.status_code for answer in answers} == {503}
    after = await until(lambda: accepted_again(world))
    counts = await world.all_settled([after])
    assert counts.pop("SENT") == 2
    assert set(counts) <= {"CANCELLED"}  # a commit that was under way is taken back
    assert len(far_end.calls) == 2


def processes_of(pid):
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


@pytest.mark.parametrize("role", ["email-worker", "router"])
async def test_a_role_killed_among_two_hundred_messages_loses_none(world, far_end, role):
    far_end.follow(SLOWLY)
    ids = await world.send_many(200)
    await until(lambda: len(far_end.calls) >= 30)

    os.kill(await world.pid(role), signal.SIGKILL)

    assert await world.all_settled(ids) == {"SENT": 200}
    calls = calls_by_message(far_end)
    assert set(calls) == set(ids)
    assert sum(calls.values()) <= 200 + await ambiguous_of(world)


async def test_a_gateway_killed_while_it_accepts_makes_one_message_for_each_key(world, far_end):
    async def insist(number):
        """The answer that a client gets who asks until he is answered."""

        async def ask():
            try:
                return await world.post(idempotency_key=f"order {number}", subject=f"Number {number}")
            except httpx.TransportError:
                return None

        return await until(ask, 30)

    asking = [asyncio.create_task(insist(number)) for number in range(100)]
    await until(lambda: sum(task.done() for task in asking) >= 20)

    os.kill(await world.pid("gateway"), signal.SIGKILL)

    answers = await asyncio.gather(*asking)
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 100
    assert await world.all_settled(ids) == {"SENT": 100}
    assert set(calls_by_message(far_end)) == ids


async def test_a_wiped_kafka_loses_nothing(world, far_end):
    far_end.follow(SLOWLY)
    ids = await world.send_many(100)

    await world.operate("restart", "kafka", wipe=True)

    assert await world.all_settled(ids, within=90) == {"SENT": 100}
    assert set(calls_by_message(far_end)) == set(ids)


async def test_without_redis_messages_are_delivered(world, far_end):
    await world.operate("stop", "redis")

    message = await world.settled(await world.send())
    await world.operate("start", "redis")

    assert message["status"] == "SENT"


async def test_a_worker_that_is_restarted_under_load_leaves_no_attempt_in_doubt(world, far_end):
    far_end.follow(SLOWLY)
    ids = await world.send_many(100)
    await until(lambda: len(far_end.calls) >= 20)

    await world.operate("restart", "email-worker")

    assert await world.all_settled(ids) == {"SENT": 100}
    assert await ambiguous_of(world) == 0
    assert calls_by_message(far_end) == dict.fromkeys(ids, 1)


async def test_after_an_answer_that_never_came_another_provider_sends_it_and_says_so(world, far_end, mailbox):
    message = await world.settled(await world.send(to=["accept-then-never-answer+ada@example.com"]))

    (doubtful,) = [event for event in message["events"] if "a duplicate is possible" in event["detail"]]
    assert (message["status"], doubtful["provider"]["name"]) == ("SENT", "simulator")
    assert (message["provider"]["name"], await ambiguous_of(world)) == ("mailbox-smtp", 1)


async def test_a_provider_that_answers_nobody_is_passed_by_before_any_deadline(world, simulator, mailbox):
    far_end = smtp_at(*simulator.smtp_address)
    silent = await world.add_provider("silent", far_end, priority=-1, settings={"concurrency": 2})
    held = [await world.send(to=["hang+ada@example.com"]) for _ in range(2)]

    async def degraded():
        answer = await asyncio.to_thread(httpx.get, f"{world.system.addresses['health']}/v1/health/providers")
        return [one for one in answer.json() if one["provider_id"] == str(silent) and one["verdict"] == "degraded"]

    (verdict,) = await until(degraded, within=9)  # a call has 10 s
    message = await world.settled(await world.send())

    assert verdict["reason"] == "no call is answered"
    assert message["provider"]["name"] == "mailbox-smtp"
    assert [(await world.message(one))["status"] for one in held] == ["SENDING"] * 2


async def test_class_once_is_not_repeated_after_doubt(world, far_end):
    body = {"to": ["accept-then-never-answer+ada@example.com"], "class": "once"}

    message = await world.settled(await world.send(**body))

    assert (message["status"], len(far_end.calls)) == ("UNCONFIRMED", 1)
