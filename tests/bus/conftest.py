"""Topics for one test on a real broker, deleted afterwards."""

import uuid

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from sluice.bus.connection import KafkaConnection
from sluice.bus.publisher import open_publisher
from tests.bus.bus import an_admin
from tests.polling import wait_until


@pytest.fixture(scope="session")
async def admin(kafka_bootstrap):
    async with an_admin(kafka_bootstrap) as client:
        await wait_until(lambda: has_coordinator(client))
        yield client


async def has_coordinator(admin):
    """A broker that was just started has no group coordinator for a moment."""
    try:
        return await admin.find_coordinator("any")
    except KafkaError:
        return None


@pytest.fixture
async def make_topic(admin):
    """Creates topics with ``partitions`` partitions; returns their names."""
    made = []

    async def make(partitions=1, name=None, **config):
        made.append(name := name or f"test.{uuid.uuid4().hex[:12]}")
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=config)
        answer = await admin.create_topics([topic])
        assert [error for _, error, *_ in answer.topic_errors] == [0], answer
        await wait_until(lambda: has_leaders(admin, name))
        return name

    yield make
    if made:
        await admin.delete_topics(sorted(set(made)))
        await wait_until(lambda: are_gone(admin, made))


async def are_gone(admin, names):
    return not set(names) & set(await admin.list_topics())


async def has_leaders(admin, name):
    (topic,) = await admin.describe_topics([name])
    return topic["error_code"] == 0 and all(one["leader"] >= 0 for one in topic["partitions"])


@pytest.fixture
async def topic(make_topic):
    return await make_topic()


@pytest.fixture
def group():
    return f"group-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def publisher(kafka_bootstrap):
    async with open_publisher(KafkaConnection.to(kafka_bootstrap), name="test") as publisher:
        yield publisher
