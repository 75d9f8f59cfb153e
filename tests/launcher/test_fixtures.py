"""The servers of the fixtures: real, and usable by a test that uses names of its own."""

import asyncio
import uuid

from aiokafka.errors import UnknownTopicOrPartitionError
from redis.asyncio import Redis

from tests.bus.bus import an_admin
from tests.engine import connected


async def test_a_database_of_a_test_has_the_schema(database):
    async with connected(database) as connection:
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")

    assert tables > 0


async def test_redis_stores_values(redis_url):
    word = f"word-{uuid.uuid4()}"
    async with Redis.from_url(redis_url) as client:
        await client.set(word, "kept", ex=60)

        assert await client.get(word) == b"kept"


async def test_kafka_creates_no_topic_by_itself(kafka_bootstrap):
    name = f"test.{uuid.uuid4().hex[:12]}"
    async with an_admin(kafka_bootstrap) as admin:
        (asked,) = await admin.describe_topics([name])
        await asyncio.sleep(0.1)

        assert asked["error_code"] == UnknownTopicOrPartitionError.errno
        assert name not in await admin.list_topics()
