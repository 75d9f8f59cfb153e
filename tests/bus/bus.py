"""Kafka helpers of the tests."""

import asyncio
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from sluice.bus.connection import KafkaConnection
from sluice.bus.consumer import Consumer
from tests.polling import wait_until


@asynccontextmanager
async def an_admin(bootstrap):
    client = AIOKafkaAdminClient(**KafkaConnection.to(bootstrap).options())
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def a_producer(bootstrap, **options):
    """The client of another program."""
    producer = AIOKafkaProducer(**KafkaConnection.to(bootstrap).options(), **{"linger_ms": 0} | options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def put(bootstrap, topic, *values, **fields):
    """Send these values in order, to partition 0 unless ``fields`` name another."""
    async with a_producer(bootstrap) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, **{"partition": 0} | fields)


async def numbers(bootstrap, topic, count, **fields):
    await put(bootstrap, topic, *[str(number).encode() for number in range(count)], **fields)


async def read_all(bootstrap, topic, count):
    """The first ``count`` records of a topic."""
    reader = AIOKafkaConsumer(topic, **KafkaConnection.to(bootstrap).options(), auto_offset_reset="earliest")
    await reader.start()
    try:
        async with asyncio.timeout(20):
            return [await reader.getone() for _ in range(count)]
    finally:
        await reader.stop()


async def committed(admin, group, topic, partition=0):
    """The offset that the group has committed; None without one."""
    offsets = await admin.list_consumer_group_offsets(group)
    found = offsets.get(TopicPartition(topic, partition))
    return None if found is None or found.offset < 0 else found.offset


async def is_committed(admin, group, topic, offset):
    return await committed(admin, group, topic) == offset


class Handler:
    """Keeps its records; acknowledges them unless ``ack`` is false; raises while it has a ``fault``."""

    def __init__(self, *, ack=True):
        self.records = []
        self.ack = ack
        self.fault = None

    async def __call__(self, records):
        self.records += records
        if self.fault is not None:
            raise self.fault
        if self.ack:
            for record in records:
                record.ack()

    @property
    def values(self):
        return [int(record.value) for record in self.records]

    def __getitem__(self, number):
        """The newest record with that value."""
        return next(record for record in reversed(self.records) if int(record.value) == number)

    async def has(self, count):
        await wait_until(lambda: len(self.records) >= count)


@asynccontextmanager
async def consuming(bootstrap, topic, group, handler, **options):
    """A consumer that runs until the block ends."""
    topics = [topic] if isinstance(topic, str) else topic
    consumer = Consumer(topics, handler, kafka=KafkaConnection.to(bootstrap), group=group, **options)
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await asyncio.wait_for(running, 30)
