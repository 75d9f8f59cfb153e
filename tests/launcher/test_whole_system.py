"""The whole system under one supervisor."""

import pytest

from sluice.bus.topics import Topic
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.roles import ROLES, SERVICES
from tests.bus.bus import an_admin

MAX_KAFKA_BYTES = 512_000_000


def test_every_service_and_role_is_ready(system):
    rows = {row["name"]: row for row in system.control.status()["processes"]}

    assert [name for name in (*SERVICES, *(role.name for role in ROLES)) if rows[name]["state"] != "ready"] == []
    assert system.control.not_ready() == []


def test_kafka_stays_within_its_memory(system):
    assert 0 < system.control.process("kafka")["memory"] < MAX_KAFKA_BYTES


def test_a_stopped_process_is_not_ready(system):
    system.control.stop("push-worker")
    missing = system.control.not_ready()

    system.control.start("push-worker")

    assert missing == ["push-worker"]


@pytest.mark.server
async def test_a_wiped_kafka_has_its_topics_again(tmp_path):
    # A system of its own: other tests share theirs.
    with LocalStack(tmp_path, roles=["health"]) as stack:
        stack.control.restart("kafka", wipe=True)

        async with an_admin(stack.addresses["kafka"]) as admin:
            assert set(await admin.list_topics()) >= {topic.value for topic in Topic}
