"""Scaling under load: 1 -> 3 -> 1 email-workers by the commands and by kill -9, and partitions while running."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import asynccontextmanager

import httpx
import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from sluice.bus.connection import KafkaConnection
from sluice.bus.topic_admin import open_admin, read_partitions
from sluice.bus.topics import Group, Topic
from sluice.health.breaker import HEALTHY
from sluice.health.view import HealthView
from sluice_simulator.scenario import Behaviour, Rule, Scenario
from tests.polling import wait_until
from tests.system.testbed import smtp_at

pytestmark = [pytest.mark.usefixtures("proven"), pytest.mark.timeout(240)]

RATE = 50  # messages a second
EMAIL_WORKERS = ["email-worker", "email-worker-2", "email-worker-3"]


@pytest.fixture
async def two_of_health(system):
    """Two health processes, one of which leads."""
    await asyncio.to_thread(system.control.scale, {"health": 2})
    yield
    await asyncio.to_thread(system.control.scale, {"health": 1})


@pytest.fixture
async def scaled_back(system):
    """One email-worker again, whatever the test did."""
    yield
    await asyncio.to_thread(system.control.scale, {"email-worker": 1})


async def sluice(system, *words):
    """The output of a command on the system."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "sluice_cli.main", *words],
        env={**environment, "SLUICE_DATA_DIR": str(system.data_dir)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@asynccontextmanager
async def load(testbed, **changes):
    """Sends RATE messages a second while the block runs; gives the list of their ids, complete after the block.

    Each has an idempotency key: a request that is repeated after a 503 is no other message.
    """
    sent: list[asyncio.Task] = []
    over, key = asyncio.Event(), uuid.uuid4()

    async def pace():
        began, number = time.monotonic(), 0
        while not over.is_set():
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            fields = {"subject": f"Number {number}", "idempotency_key": f"{key}-{number}"}
            sent.append(asyncio.create_task(testbed.send(**fields, **changes)))
            number += 1

    ids: list[str] = []
    pacing = asyncio.create_task(pace())
    try:
        yield ids
    finally:
        over.set()
        await pacing
        ids += await asyncio.gather(*sent)


async def shares(system):
    """How many partitions of deliveries.email each member of the group has, the largest number first."""
    async with open_admin(KafkaConnection.to(system.addresses["kafka"])) as admin:
        (response,) = await admin.describe_consumer_groups([Group.EMAIL_WORKER.value])
        ((_, _, state, _, _, members, *_),) = response.groups
    if state != "Stable":
        return []
    decoded = [ConsumerProtocolMemberAssignment.decode(member[-1]) for member in members]
    return sorted((sum(len(numbers) for _, numbers in each.assignment) for each in decoded), reverse=True)


async def have_shares(system, wanted):
    async def look():
        return await shares(system) == wanted

    await wait_until(look, within=60)


def calls_by_message(simulator):
    return Counter(call["message_id"] for call in simulator.calls)


async def unexplained_calls(testbed, simulator):
    """The calls that the provider accepted and the database does not explain, by attempt reference.

    An attempt makes one call, and its outcome is ``accepted``, or unknown with the hint that a duplicate is possible. A
    delivery has one accepted attempt at most (I3): what was accepted twice is said to be possibly so.
    """
    rows = await testbed.db.fetch(
        """
        SELECT a.client_reference FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
         WHERE d.project_id = $1
               AND (a.outcome = 'accepted' OR a.outcome = 'unknown' AND a.error LIKE '%a duplicate is possible')
        """,
        testbed.project.id,
    )
    explained = {row["client_reference"] for row in rows}
    calls = Counter(call["reference"] for call in simulator.calls if call["accepted"])
    return {reference: number for reference, number in calls.items() if number > 1 or reference not in explained}


async def test_one_three_one_email_workers_by_the_commands_lose_and_double_nothing(
    system, testbed, fake_provider, scaled_back
):
    async with load(testbed) as ids:
        await asyncio.sleep(2)
        more = await sluice(system, "scale", "email-worker=3")
        await have_shares(system, [3, 3, 2])
        names = [row["name"] for row in (await asyncio.to_thread(system.control.status))["processes"]]
        await asyncio.sleep(3)
        fewer = await sluice(system, "scale", "email-worker=1")
        await have_shares(system, [8])
        await asyncio.sleep(2)

    assert (more, fewer) == ("email-worker 3\n", "email-worker 1\n")
    assert [name for name in names if name.startswith("email-worker")] == EMAIL_WORKERS
    assert len(ids) > 7 * RATE
    assert await testbed.all_settled(ids) == {"SENT": len(ids)}
    assert calls_by_message(fake_provider) == dict.fromkeys(ids, 1)


async def test_three_email_workers_killed_in_turn_lose_nothing_and_double_only_what_is_recorded_as_unknown(
    system, testbed, fake_provider, scaled_back
):
    await sluice(system, "scale", "email-worker=3")
    await have_shares(system, [3, 3, 2])
    async with load(testbed) as ids:
        for name in EMAIL_WORKERS:
            await asyncio.sleep(2)
            os.kill(await testbed.pid(name), signal.SIGKILL)
        await have_shares(system, [3, 3, 2])

    rows = (await asyncio.to_thread(system.control.status))["processes"]
    assert all(row["restarts"] >= 1 for row in rows if row["name"] in EMAIL_WORKERS)
    assert await testbed.all_settled(ids) == {"SENT": len(ids)}
    assert set(calls_by_message(fake_provider)) == set(ids)
    assert await unexplained_calls(testbed, fake_provider) == {}


async def test_partitions_are_added_under_load_and_used_at_once(system, testbed, fake_provider, scaled_back):
    kafka = KafkaConnection.to(system.addresses["kafka"])
    before = (await read_partitions(kafka))[Topic.SMS]
    raised = {Topic.EMAIL.value: 10, Topic.ACCEPTED.value: 10, Topic.EVENTS.value: 10}
    totals = [f"{name}={number}" for name, number in raised.items()]
    try:
        async with load(testbed) as ids:
            shown = await sluice(system, "partitions", *totals)
            await have_shares(system, [10])
            await sluice(system, "scale", "email-worker=3")
            await have_shares(system, [4, 3, 3])

        assert await testbed.all_settled(ids) == {"SENT": len(ids)}
        assert calls_by_message(fake_provider) == dict.fromkeys(ids, 1)
        assert [line.split() for line in shown.splitlines()] == [[name, "10", "(had", "8)"] for name in raised]
        assert {name: (await read_partitions(kafka))[name] for name in raised} == raised
        assert (await read_partitions(kafka))[Topic.SMS] == before
    finally:
        # Other tests expect the partitions of deploy/topics.yml.
        await testbed.run_command("restart", "kafka", wipe=True)


async def leaders(system):
    """The health processes that lead, by their metric."""
    found = []
    async with httpx.AsyncClient(trust_env=False) as client:
        for row in (await asyncio.to_thread(system.control.status))["processes"]:
            if row["name"].startswith("health"):
                with contextlib.suppress(httpx.TransportError):
                    text = (await client.get(f"{row['address']}/metrics")).text
                    found += [row["name"]] if "sluice_health_leader 1.0" in text else []
    return found


def a_fault(view, provider_id):
    status = view.statuses.get(provider_id)
    return status if status is not None and status.status != HEALTHY else None


async def test_when_the_leader_of_health_is_killed_in_an_outage_the_next_one_goes_on_with_its_evidence(
    system, testbed, simulator, mailbox, two_of_health
):
    first = await testbed.add_provider("first", smtp_at(*simulator.address("smtp")), priority=-1)
    simulator.apply_scenario(Scenario(default=Rule(behaviour=Behaviour.FAULT)))
    [leader] = await wait_until(lambda: leaders(system))
    kafka = KafkaConnection.to(system.addresses["kafka"])

    async with HealthView().subscribed(kafka) as view:
        for _ in range(3):  # too few for a status
            await testbed.settled(await testbed.send())
        os.kill(await testbed.pid(leader), signal.SIGKILL)
        killed = time.monotonic()
        for _ in range(3):
            await testbed.settled(await testbed.send())
        status = await wait_until(lambda: a_fault(view, first))
        print(f"the next leader published after {time.monotonic() - killed:.1f} s")

    assert (status.status, status.reason) == ("unhealthy", "5 consecutive failures")
    assert len(await leaders(system)) == 1
