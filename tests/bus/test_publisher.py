"""The publisher: every result is done in the end, acknowledged or failed."""

import asyncio

import pytest

from sluice.bus.connection import KafkaConnection
from sluice.bus.publisher import Publisher, open_publisher, wait_for_acks
from sluice_launcher.process_info import free_port
from tests.bus.bus import read_all


@pytest.fixture
def unreachable():
    """An address without a broker."""
    return f"127.0.0.1:{free_port()}"


async def test_a_published_record_arrives(kafka_bootstrap, publisher, topic):
    assert await wait_for_acks([publisher.publish(topic, b"key", b"value", {"name": "text"})])

    (record,) = await read_all(kafka_bootstrap, topic, 1)
    assert (record.key, record.value) == (b"key", b"value")
    assert dict(record.headers) == {"schema-version": b"2", "name": b"text"}


async def test_records_of_one_key_stay_in_order(kafka_bootstrap, publisher, make_topic):
    topic = await make_topic(partitions=3)

    for number in range(300):
        publisher.publish(topic, b"key", str(number).encode())

    records = await read_all(kafka_bootstrap, topic, 300)
    assert [int(record.value) for record in records] == list(range(300))


async def test_each_record_without_a_key_arrives_once(kafka_bootstrap, publisher, make_topic):
    topic = await make_topic(partitions=3)

    assert await wait_for_acks([publisher.publish(topic, None, str(number).encode()) for number in range(300)])

    records = await read_all(kafka_bootstrap, topic, 300)
    assert sorted(int(record.value) for record in records) == list(range(300))


async def test_a_deletion_can_be_published(kafka_bootstrap, publisher, topic):
    assert await wait_for_acks([publisher.publish(topic, b"key", None)])

    (record,) = await read_all(kafka_bootstrap, topic, 1)
    assert record.value is None


async def test_a_record_that_is_too_large_is_refused_and_the_next_one_published(publisher, topic):
    large, small = publisher.publish(topic, b"key", b"x" * 2_000_000), publisher.publish(topic, b"key", b"x")

    assert await wait_for_acks([small])
    assert large.error == "the record is larger than 1000000 bytes"


async def test_a_record_larger_than_a_batch_is_published_and_so_are_its_neighbours(kafka_bootstrap, publisher, topic):
    sizes = [10, 300_000, 20, 30]

    assert await wait_for_acks([publisher.publish(topic, b"key", b"x" * size) for size in sizes])

    records = await read_all(kafka_bootstrap, topic, len(sizes))
    assert [len(record.value) for record in records] == sizes


async def test_one_key_goes_to_one_partition(kafka_bootstrap, publisher, make_topic):
    topic = await make_topic(partitions=5)

    for key in (b"one", b"two", b"one"):
        assert await wait_for_acks([publisher.publish(topic, key, b"value")])

    places = {(record.key, record.partition) for record in await read_all(kafka_bootstrap, topic, 3)}
    assert len(places) == 2


async def test_with_one_refused_record_not_all_are_acknowledged(publisher, topic):
    results = [publisher.publish(topic, b"key", value) for value in (b"x", b"x" * 2_000_000)]

    assert not await wait_for_acks(results)


async def test_records_in_the_queue_are_published_before_the_end(kafka_bootstrap, topic):
    async with open_publisher(KafkaConnection.to(kafka_bootstrap), name="test") as publisher:
        results = [publisher.publish(topic, b"key", str(number).encode()) for number in range(1000)]

    assert all(result.done and not result.error for result in results)
    assert len(await read_all(kafka_bootstrap, topic, 1000)) == 1000


async def test_a_full_queue_refuses_at_once():
    publisher = Publisher(limit=3)

    results = [publisher.publish("any", b"key", b"value") for _ in range(4)]

    assert [result.done for result in results] == [False, False, False, True]
    assert results[3].error == "the publisher's queue is full"


async def test_results_fail_when_the_broker_never_responds(unreachable):
    async with open_publisher(KafkaConnection.to(unreachable), name="test") as publisher:
        results = [publisher.publish("any", b"key", b"value") for _ in range(3)]

    assert not await asyncio.wait_for(wait_for_acks(results), timeout=1)


async def test_results_fail_for_a_topic_that_does_not_exist(kafka_bootstrap):
    async with open_publisher(KafkaConnection.to(kafka_bootstrap), name="test") as publisher:
        missing = publisher.publish("test.no-such-topic", b"key", b"value")
        behind = publisher.publish("test.no-such-topic", b"key", b"value")

    assert not await asyncio.wait_for(wait_for_acks([missing, behind]), timeout=1)


async def test_a_failing_callback_keeps_no_other_result_from_being_done(publisher, topic):
    results = [publisher.publish(topic, b"key", str(number).encode()) for number in range(3)]
    seen = []
    results[0].on_done(lambda _: 1 / 0)
    results[1].on_done(seen.append)

    assert await wait_for_acks(results[2:])
    assert seen == [results[1]]
    results[2].on_done(seen.append)  # done already
    assert seen == results[1:]
