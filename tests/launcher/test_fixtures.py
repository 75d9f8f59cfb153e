"""The servers of the fixtures: real, and usable by a test that uses names of its own."""

import uuid

from aiokafka.admin import NewTopic
from redis.asyncio import Redis

from tests.bus.bus import an_admin
from tests.engine import connected
from tests.polling import wait_until


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
    unknown, later = (f"test.{uuid.uuid4().hex[:12]}" for _ in range(2))
    async with an_admin(kafka_bootstrap) as admin:
        await admin.describe_topics([unknown])
        await admin.create_topics([NewTopic(later, num_partitions=1, replication_factor=1)])

        # Topics are created in the order of the requests: now the first would be there.
        await wait_until(lambda: is_listed(admin, later))
        assert not await is_listed(admin, unknown)
        await admin.delete_topics([later])


async def is_listed(admin, topic):
    return topic in await admin.list_topics()
