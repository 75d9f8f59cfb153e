"""The feed of the event streams, on a real broker."""

import asyncio
from contextlib import asynccontextmanager

from gateway.events.feed import EventFeed
from gateway.events.source import KafkaEventSource
from sluice.bus.connection import KafkaConnection
from sluice.runtime.tasks import cancel_and_wait
from tests.bus.bus import a_producer
from tests.examples import OTHER_PROJECT, PROJECT
from tests.polling import wait_until
from tests.services.test_event_stream import an_event


@asynccontextmanager
async def a_feed(bootstrap, topic, window=100):
    feed = EventFeed(KafkaEventSource(KafkaConnection.to(bootstrap), topic), window=window)
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        await cancel_and_wait(task)


async def publish(bootstrap, topic, *projects, partition=0):
    async with a_producer(bootstrap) as producer:
        for project in projects:
            await producer.send_and_wait(topic, an_event(project), partition=partition)


async def offsets(stream, count):
    found = []

    def is_there():
        found.extend((entry.partition, entry.offset) for entry in stream.next_batch().entries)
        return len(found) >= count

    await wait_until(is_there)
    return sorted(found)


async def test_events_of_all_partitions_come_and_another_gateway_continues(kafka_bootstrap, make_topic):
    topic = await make_topic(2)
    await publish(kafka_bootstrap, topic, PROJECT)
    async with a_feed(kafka_bootstrap, topic) as feed:
        stream = await feed.subscribe(PROJECT, None)
        assert stream.next_batch().entries == []
        await publish(kafka_bootstrap, topic, PROJECT, OTHER_PROJECT, partition=1)
        assert await offsets(stream, 1) == [(1, 0)]
        position = stream.position

    await publish(kafka_bootstrap, topic, PROJECT)
    async with a_feed(kafka_bootstrap, topic) as another:
        stream = await another.subscribe(PROJECT, position)

        assert not stream.missed
        assert await offsets(stream, 1) == [(0, 1)]


async def test_the_window_begins_with_what_the_topic_has_had(kafka_bootstrap, make_topic):
    topic = await make_topic(2)
    await publish(kafka_bootstrap, topic, *[PROJECT] * 8)
    async with a_feed(kafka_bootstrap, topic, window=10) as feed:
        stream = await feed.subscribe(PROJECT, (5, 0))
        missed = await feed.subscribe(PROJECT, (0, 0))

        assert (stream.missed, missed.missed) == (False, True)
        assert await offsets(stream, 3) == [(0, 5), (0, 6), (0, 7)]
