"""No secret of a provider's account leaves its encrypted row.

Unique values in every secret field of every package, and in its other texts that take one; calls that fail in every
way, forged receipts, the command line and the API; then a search of everything that was written.
"""

import asyncio
import os
import subprocess
import sys
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from sluice.bus.connection import KafkaConnection
from sluice.model import ids
from sluice.providers.registry import PACKAGES, get_package
from sluice_simulator import Behaviour, EndpointScenario, Forgery, Receipts, Scenario, Simulator
from sluice_simulator.accounts import every_account
from tests.canaries import Canaries, secret_fields
from tests.polling import wait_until

FAILURES = {"auth": Behaviour.AUTH, "fault": Behaviour.FAULT, "hang": Behaviour.HANG}
FORGED = Receipts(kinds=("delivered",), delay=0.2, interval=0.01, forged=tuple(Forgery))


@pytest.mark.timeout(300)
async def test_no_secret_appears_in_what_the_system_writes(testbed):
    canaries, marker = Canaries(), f"marker-{uuid4().hex}"
    accounts = [account for account in every_account(canaries).values() if account.package != "provider-messagepipe"]
    endpoints = {f"{place}-{one.dialect}": one.dialect for one in accounts for place in ("ok", *FAILURES)}
    answers: list[bytes] = []
    async with Simulator(endpoints=endpoints) as simulator:
        preferred = await add_all(testbed, simulator, accounts, canaries)
        messages = await asyncio.gather(
            *(send(testbed, account, preferred[account.package], marker) for account in accounts)
        )
        await wait_until(lambda: settled(testbed, messages), 40)
        await simulator.webhook_sender.wait_idle()
        refused = [line for line in simulator.webhook_log.lines if line["forged"]]
        assert refused
        assert all(line["status"] in (400, 401, 403) for line in refused)
    for message_id in messages:
        answer = await testbed.api.get(f"/v1/messages/{message_id}", headers={"x-sendpipe-key": testbed.key})
        answers.append(answer.content)
    answers += await asyncio.to_thread(command_line, testbed, messages[0])

    written = {
        **{f"answer {number}": answer for number, answer in enumerate(answers)},
        **logs(testbed.system),
        **await metrics(testbed.system),
        **await tables(testbed.db),
        **await topics(testbed.system),
    }

    assert secrets_of_every_package() <= canaries.values.keys()
    assert any(marker.encode() in content for place, content in written.items() if place.startswith("table"))
    assert {place: found for place, content in written.items() if (found := canaries.search(content))} == {}


def secrets_of_every_package():
    """Every secret credential field that the registry knows."""
    return {f"{name}.{path}" for name, package in PACKAGES.items() for path in secret_fields(package.credentials)}


async def add_all(testbed, simulator, accounts, canaries):
    """Three failing accounts and a working one of each package; the id of the first by package. The failing ones have a
    value in every secret field."""
    first, scenarios = {}, {}
    for account in accounts:
        for place in (*FAILURES, "ok"):
            endpoint = f"{place}-{account.dialect}"
            credentials = account.credentials_at(*simulator.address(endpoint))
            if place != "ok":
                credentials = canaries.complete(get_package(account.package), credentials)
            provider = await testbed.add_provider(
                endpoint, credentials, package=account.package, channel=account.channel
            )
            first.setdefault(account.package, ids.encode_id("prv", provider))
            url = f"{testbed.system.addresses['gateway']}/v1/receipts/{ids.encode_id('prv', provider)}"
            behaviour = FAILURES.get(place, Behaviour.ACCEPT)
            scenarios[endpoint] = EndpointScenario(behaviour=behaviour, receipts=FORGED, webhooks=account.webhooks(url))
    simulator.apply_scenario(Scenario(endpoints=scenarios))
    return first


async def send(testbed, account, preferred, marker):
    request = {"from": None, "subject": None, "text": None, **account.request, "preferred_provider": preferred}
    return await testbed.send(**request, tags=[marker])


async def settled(testbed, messages):
    found = await asyncio.gather(*map(testbed.message, messages))
    return all(message["status"] not in ("QUEUED", "SENDING") for message in found)


def command_line(testbed, message_id):
    """What the commands that read messages and accounts print."""
    commands = [("message", message_id, "--key", testbed.key), ("verify",), ("status",), ("captured",), ("doctor",)]
    environment = {**os.environ, **testbed.system.environment, "SLUICE_API_URL": testbed.system.addresses["gateway"]}
    done = [
        subprocess.run(
            [sys.executable, "-m", "sluice_cli.main", *words],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        for words in commands
    ]
    return [one.stdout + one.stderr for one in done]


def logs(system):
    """The log of every role and service."""
    found = {f"log {path.name}": path.read_bytes() for path in (system.data_dir / "logs").iterdir()}
    assert {"log gateway.log", "log email-worker.log", "log sms-worker.log", "log push-worker.log"} <= found.keys()
    return found


async def metrics(system):
    found = {}
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for name, address in system.addresses.items():
            if str(address).startswith("http"):
                found[f"metrics {name}"] = (await client.get(f"{address}/metrics")).content
    assert len(found) >= 7
    return found


async def tables(db):
    """Every row of every table as text; binary columns in hexadecimal."""
    names = await db.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'public'"
    )
    found = {}
    for (name,) in names:
        rows = await db.fetch(f"SELECT t::text AS row FROM {name} t")
        found[f"table {name}"] = "\n".join(row["row"] for row in rows).encode()
    return found


async def topics(system):
    """Every record of every topic: its key, its headers and its value."""
    options = KafkaConnection.to(system.addresses["kafka"]).options()
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        described = await admin.describe_topics()
    finally:
        await admin.close()
    found = {}
    async with AIOKafkaConsumer(**options, enable_auto_commit=False, auto_offset_reset="earliest") as consumer:
        for topic in described:
            partitions = [TopicPartition(topic["topic"], one["partition"]) for one in topic["partitions"]]
            found[f"topic {topic['topic']}"] = b"\n".join([content async for content in read(consumer, partitions)])
    assert found["topic delivery.events"]
    return found


async def read(consumer, partitions):
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)
    while any([await consumer.position(one) < end for one, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                headers = b" ".join(value for _, value in record.headers)
                yield b" ".join((record.key or b"", headers, record.value or b""))
