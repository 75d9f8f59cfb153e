"""A record whose header names are not UTF-8: every kind of consumer goes on, and its neighbours are read."""

import json

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from event_worker.service import EventService
from sluice.bus.connection import KafkaConnection
from sluice.bus.publisher import open_publisher
from sluice.bus.record_batches import why_undecodable
from sluice.bus.topics import Topic
from sluice.health.view import HealthView
from tests.bus.bus import Handler, a_producer, consuming, is_committed, numbers, read_all
from tests.bus.test_subscriber import Handler as BatchHandler
from tests.bus.test_subscriber import running
from tests.examples import a_provider, health_of
from tests.polling import wait_until

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


class NoText(str):
    """A header name that is not UTF-8, as the client of another program may write it."""

    def encode(self, *_):
        return b"\xff\xfe name"


BAD = [(NoText("x"), b"")]


async def send_batch(producer: AIOKafkaProducer, topic, *records, codec="none", partition=0, key=None):
    """Send (value, headers) in one batch that aiokafka refuses to build."""
    batch = producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=CODECS[codec],
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=16_384,
    )
    for value, headers in records:
        assert batch.append(key=key, value=value, timestamp=None, headers=headers)
    await (await producer.send_batch(batch, topic, partition=partition))


def seen(handler):
    return [(record.offset, record.value) for record in handler.records]


async def test_it_does_not_stop_its_partition(kafka_bootstrap, topic, group):
    handler = Handler()
    async with a_producer(kafka_bootstrap) as producer:
        await producer.send_and_wait(topic, b"0")
        await send_batch(producer, topic, (b"1", BAD))
        await producer.send_and_wait(topic, b"2")

    async with consuming(kafka_bootstrap, topic, group, handler):
        await handler.has(3)

    assert seen(handler) == [(0, b"0"), (1, None), (2, b"2")]


@pytest.mark.parametrize("codec", CODECS)
async def test_its_neighbours_in_the_batch_are_read(kafka_bootstrap, admin, topic, group, codec):
    handler = Handler()
    async with a_producer(kafka_bootstrap) as producer:
        good = [("name", b"value")]
        records = [(b"0", good), (b"1", BAD), (b"2", []), (b"3", [*good, *BAD]), (b"4", good)]
        await send_batch(producer, topic, *records, codec=codec)

    async with consuming(kafka_bootstrap, topic, group, handler):
        await wait_until(lambda: is_committed(admin, group, topic, 5))

    assert seen(handler) == [(0, b"0"), (1, None), (2, b"2"), (3, None), (4, b"4")]
    headers = [record.headers for record in handler.records]
    assert [headers[number] for number in (0, 2, 4)] == [tuple(good), (), tuple(good)]
    why = [why_undecodable(one) for one in headers]
    assert why == [None, "a header name is not UTF-8", None, "a header name is not UTF-8", None]
    assert all(record.timestamp > 0 for record in handler.records)


async def test_no_record_of_another_partition_is_lost(kafka_bootstrap, make_topic, group):
    topic, handler = await make_topic(partitions=3), Handler()
    async with a_producer(kafka_bootstrap) as producer:
        for partition in range(3):
            await numbers(kafka_bootstrap, topic, 20, partition=partition)
        await send_batch(producer, topic, (b"20", BAD), (b"21", []), partition=1)

    async with consuming(kafka_bootstrap, topic, group, handler):
        await handler.has(62)

    by_partition: dict[int, list[int]] = {number: [] for number in range(3)}
    for record in handler.records:
        by_partition[record.partition].append(record.offset)
    assert by_partition == {0: [*range(20)], 1: [*range(22)], 2: [*range(20)]}


async def test_a_subscriber_reads_it_as_an_empty_record(kafka_bootstrap, admin, topic, group):
    handler = BatchHandler()
    async with a_producer(kafka_bootstrap) as producer:
        await send_batch(producer, topic, (b"0", []), (b"1", BAD), (b"2", []))

    async with running(kafka_bootstrap, topic, group, handler):
        await wait_until(lambda: is_committed(admin, group, topic, 3))

    assert handler.values == [b"0", None, b"2"]


async def test_the_event_worker_dead_letters_it_with_the_reason(kafka_bootstrap, admin, topic, group, make_topic):
    letters = await make_topic(name=Topic.DEAD_LETTERS.value)
    async with a_producer(kafka_bootstrap) as producer:
        await send_batch(producer, topic, (b"{}", BAD))

    async with open_publisher(KafkaConnection.to(kafka_bootstrap), name="test") as publisher:
        service = EventService(publisher, [])
        async with running(kafka_bootstrap, topic, group, service.on_events):
            await wait_until(lambda: is_committed(admin, group, topic, 1))

    letter = json.loads((await read_all(kafka_bootstrap, letters, 1))[0].value)
    assert (letter["topic"], letter["offset"], letter["reason"]) == (topic, 0, "a header name is not UTF-8")


def test_a_header_of_another_program_is_not_taken_for_ours():
    assert why_undecodable([("undecodable", b"a header name is not UTF-8")]) is None


async def test_the_health_view_goes_on_behind_it(kafka_bootstrap, make_topic):
    await make_topic(name=Topic.HEALTH.value)
    health = health_of(a_provider(), "degraded")
    async with a_producer(kafka_bootstrap) as producer:
        await send_batch(producer, Topic.HEALTH, (b"x", BAD), key=b"k")
        await producer.send_and_wait(Topic.HEALTH, health.encode(), key=health.provider_id.bytes, partition=0)

    async with HealthView().subscribed(KafkaConnection.to(kafka_bootstrap)) as view:
        await wait_until(lambda: health.provider_id in view.statuses)
