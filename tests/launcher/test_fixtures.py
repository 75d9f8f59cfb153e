"""The servers of the fixtures: real, not shared with other programs, and empty."""

import redis.asyncio
from aiokafka.admin import AIOKafkaAdminClient


async def test_a_database_of_a_test_has_the_schema(database):
    import asyncpg

    connection = await asyncpg.connect(database)

    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") > 0

    await connection.close()


async def test_redis_stores_values(redis_url):
    client = redis.asyncio.from_url(redis_url)

    await client.set("word", "kept")

    assert await client.get("word") == b"kept"

    await client.aclose()


async def test_kafka_creates_no_topic_by_itself(kafka_bootstrap):
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()

    assert [name for name in await admin.list_topics() if not name.startswith("__")] == []

    await admin.close()
