"""The whole system under one supervisor."""

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from sluice.bus.topics import Topic
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.roles import ROLES, SERVICES

pytestmark = pytest.mark.system

LARGEST_KAFKA = 512_000_000


async def topics_of(bootstrap):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


def test_every_service_and_role_is_ready(system):
    rows = {row["name"]: row for row in system.control.status()["processes"]}

    assert [name for name in (*SERVICES, *(role.name for role in ROLES)) if rows[name]["state"] != "ready"] == []
    assert system.control.not_ready() == []


def test_kafka_stays_within_its_memory(system):
    assert 0 < system.control.process("kafka")["memory"] < LARGEST_KAFKA


def test_what_is_down_is_not_ready(system):
    system.control.stop("push-worker")
    missing = system.control.not_ready()

    system.control.start("push-worker")

    assert missing == ["push-worker"]


async def test_a_wiped_kafka_has_its_topics_again(tmp_path):
    # One of its own: the tests that share the system need not find it without its data.
    with LocalStack(tmp_path, roles=["health"]) as engine:
        engine.control.restart("kafka", wipe=True)

        assert await topics_of(engine.addresses["kafka"]) >= {topic.value for topic in Topic}
