"""The consumer: many records in flight, and only the acknowledged prefix is committed."""

import asyncio
import time
from operator import attrgetter

import pytest

from sluice.bus.connection import KafkaConnection
from sluice.bus.consumer import Consumer, Limits
from sluice.runtime.errors import SluiceError
from sluice.runtime.tasks import cancel_and_wait
from sluice_launcher.process_info import free_port
from tests.bus.bus import Handler, a_producer, committed, consuming, is_committed, numbers
from tests.polling import wait_until


async def test_the_handler_gets_every_record_in_order(kafka_bootstrap, topic, group):
    handler = Handler()
    await numbers(kafka_bootstrap, topic, 50)

    async with consuming(kafka_bootstrap, topic, group, handler):
        await handler.has(50)

    assert handler.values == list(range(50))


async def test_a_record_has_its_coordinates_key_and_headers(kafka_bootstrap, topic, group):
    handler = Handler()
    await numbers(kafka_bootstrap, topic, 2, headers=[("name", b"value")], key=b"key")

    async with consuming(kafka_bootstrap, topic, group, handler):
        await handler.has(2)

    record = handler[1]
    assert (record.topic, record.partition, record.offset) == (topic, 0, 1)
    assert (record.key, record.headers) == (b"key", (("name", b"value"),))


async def test_acknowledged_records_are_committed(kafka_bootstrap, admin, topic, group):
    handler = Handler()
    await numbers(kafka_bootstrap, topic, 10)

    async with consuming(kafka_bootstrap, topic, group, handler):
        await wait_until(lambda: is_committed(admin, group, topic, 10))


async def test_nothing_is_committed_beyond_the_first_unacknowledged_record(kafka_bootstrap, admin, topic, group):
    handler = Handler(ack=False)
    await numbers(kafka_bootstrap, topic, 10)

    async with consuming(kafka_bootstrap, topic, group, handler):
        await handler.has(10)
        for number in (9, 1, 0, 2, 8, 7, 4):
            handler[number].ack()
        await wait_until(lambda: is_committed(admin, group, topic, 3))
        for number in (3, 5, 6):
            handler[number].ack()
        await wait_until(lambda: is_committed(admin, group, topic, 10))


async def test_a_second_ack_changes_nothing(kafka_bootstrap, topic, group):
    handler = Handler(ack=False)
    await numbers(kafka_bootstrap, topic, 2)

    async with consuming(kafka_bootstrap, topic, group, handler) as consumer:
        await handler.has(2)
        handler[0].ack()
        handler[0].ack()

        assert consumer.in_flight == 1
        handler[1].ack()


async def test_unacknowledged_records_go_to_the_next_consumer(kafka_bootstrap, topic, group):
    first, second = Handler(ack=False), Handler()
    await numbers(kafka_bootstrap, topic, 10)
    async with consuming(kafka_bootstrap, topic, group, first, drain=0.1):
        await first.has(10)
        for number in (0, 1, 2, 5):
            first[number].ack()

    async with consuming(kafka_bootstrap, topic, group, second):
        await second.has(7)

    assert second.values == [3, 4, 5, 6, 7, 8, 9]


async def test_a_stop_waits_for_records_in_flight(kafka_bootstrap, admin, topic, group):
    handler = Handler(ack=False)
    await numbers(kafka_bootstrap, topic, 5)
    async with consuming(kafka_bootstrap, topic, group, handler) as consumer:
        await handler.has(5)
        consumer.stop()
        for number in (4, 3, 2, 1, 0):
            await asyncio.sleep(0)
            handler[number].ack()

    assert await committed(admin, group, topic) == 5


async def test_a_handler_that_raises_gets_its_unacknowledged_records_again(kafka_bootstrap, admin, topic, group):
    handler = Handler(ack=False)
    handler.fault = RuntimeError("a bug")
    await numbers(kafka_bootstrap, topic, 3)

    async with consuming(kafka_bootstrap, topic, group, handler):
        await handler.has(3)
        handler[1].ack()
        handler.fault = None
        await handler.has(5)
        assert handler.values[3:] == [0, 2]
        handler[0].ack()
        handler[2].ack()
        await wait_until(lambda: is_committed(admin, group, topic, 3))


async def test_a_consumer_whose_handler_keeps_raising_can_be_stopped(kafka_bootstrap, topic, group):
    handler = Handler()
    handler.fault = RuntimeError("a bug")
    await numbers(kafka_bootstrap, topic, 3)

    async with consuming(kafka_bootstrap, topic, group, handler, drain=0.5):
        await handler.has(3)

    assert set(handler.values) == {0, 1, 2}


async def test_a_full_window_pauses_its_partition(kafka_bootstrap, topic, group):
    handler = Handler(ack=False)
    await numbers(kafka_bootstrap, topic, 100)

    async with consuming(kafka_bootstrap, topic, group, handler, limits=Limits(window=20, batch=10)) as consumer:
        await handler.has(20)
        polled = consumer.polled_at
        await wait_until(lambda: consumer.polled_at > polled + 0.3)  # polls continue and return nothing
        held = len(handler.records)
        await ack_all(handler, 100)

    assert 20 <= held <= 30
    assert handler.values == list(range(100))


async def ack_all(handler, count):
    """Acknowledge every record that the handler has, until it has ``count``."""

    def ack():
        for record in handler.records:
            record.ack()
        return len(handler.records) >= count

    await wait_until(ack)
    ack()


async def test_no_more_are_in_flight_than_allowed(kafka_bootstrap, make_topic, group):
    topic, handler = await make_topic(partitions=4), Handler(ack=False)
    for partition in range(4):
        await numbers(kafka_bootstrap, topic, 50, partition=partition)

    async with consuming(kafka_bootstrap, topic, group, handler, limits=Limits(in_flight=60, batch=25)) as consumer:
        await handler.has(60)
        assert consumer.in_flight == 60
        polled = consumer.polled_at
        await wait_until(lambda: consumer.polled_at > polled)  # still a member of the group
        assert len(handler.records) == 60
        await ack_all(handler, 200)

    assert sorted(handler.values) == sorted([*range(50)] * 4)


async def test_a_second_consumer_gets_half_of_the_partitions(kafka_bootstrap, make_topic, group):
    topic, one, other = await make_topic(partitions=4), Handler(), Handler()
    async with (
        consuming(kafka_bootstrap, topic, group, one) as first,
        consuming(kafka_bootstrap, topic, group, other) as second,
    ):
        await wait_until(lambda: len(assignment(first)) == len(assignment(second)) == 2)
        for partition in range(4):
            await numbers(kafka_bootstrap, topic, 10, partition=partition)
        await wait_until(lambda: len(one.records) + len(other.records) >= 40)

    assert len(one.records) == len(other.records) == 20


def assignment(consumer):
    return consumer._client.assignment() if consumer._client else set()


async def test_a_record_acknowledged_during_a_rebalance_is_not_consumed_again(kafka_bootstrap, make_topic, group):
    topic, one, other = await make_topic(partitions=2), Handler(ack=False), Handler()
    for partition in range(2):
        await numbers(kafka_bootstrap, topic, 10, partition=partition)

    async with consuming(kafka_bootstrap, topic, group, one) as first:
        await one.has(20)
        async with consuming(kafka_bootstrap, topic, group, other) as second:
            # The second gets no partition before the first has released it.
            await wait_until(lambda: second._client is not None or first._client._subscription.reassignment_in_progress)
            for record in one.records:
                record.ack()
            await wait_until(lambda: len(assignment(first)) == len(assignment(second)) == 1)

    assert (len(one.records), len(other.records)) == (20, 0)


async def test_a_record_not_acknowledged_within_the_drain_is_consumed_again(kafka_bootstrap, make_topic, group):
    topic, one, other = await make_topic(partitions=2), Handler(ack=False), Handler()
    for partition in range(2):
        await numbers(kafka_bootstrap, topic, 5, partition=partition)

    async with consuming(kafka_bootstrap, topic, group, one, drain=0.5) as first:
        await one.has(10)
        async with consuming(kafka_bootstrap, topic, group, other):
            await other.has(5)
            late = [record for record in one.records if not record.owned]
            for record in one.records:
                record.ack()
            await wait_until(lambda: first.in_flight == 0)

    assert len(late) >= 5
    assert sorted(other.values) == [0, 1, 2, 3, 4]


async def test_revoked_records_of_a_handler_that_raises_do_not_fill_the_window(kafka_bootstrap, make_topic, group):
    topic, one, other = await make_topic(partitions=2), Handler(), Handler()
    one.fault = RuntimeError("a bug")
    for partition in range(2):
        await numbers(kafka_bootstrap, topic, 5, partition=partition)

    async with consuming(kafka_bootstrap, topic, group, one, drain=0.5) as first:
        await wait_until(lambda: len(set(one.records)) == 10)
        async with consuming(kafka_bootstrap, topic, group, other):
            await other.has(5)
            one.fault = None
            await wait_until(lambda: first.in_flight == 0)


async def test_a_late_ack_of_a_revoked_record_commits_nothing(kafka_bootstrap, admin, make_topic, group):
    topic, one, other = await make_topic(), Handler(ack=False), Handler(ack=False)
    await numbers(kafka_bootstrap, topic, 5)
    async with consuming(kafka_bootstrap, topic, group, one, drain=0.1):
        await one.has(5)
    async with consuming(kafka_bootstrap, topic, group, other, drain=0.1):
        await other.has(5)

        for record in one.records:
            record.ack()

    assert await committed(admin, group, topic) in (None, 0)


async def test_a_consumer_is_ready_once_it_polls(kafka_bootstrap, topic, group):
    consumer = Consumer([topic], Handler(), kafka=KafkaConnection.to(kafka_bootstrap), group=group)
    assert consumer.readiness() == "not in the consumer group yet"
    running = asyncio.create_task(consumer.run())

    try:
        await wait_until(lambda: consumer.readiness() is None)
    finally:
        consumer.stop()
        stopping = consumer.readiness()
        await running

    assert stopping == "stopping"


async def test_a_consumer_whose_polls_stall_is_not_ready(kafka_bootstrap, topic, group):
    async with consuming(kafka_bootstrap, topic, group, Handler()) as consumer:
        await wait_until(lambda: consumer.readiness() is None)
        consumer.polled_at = time.monotonic() - 60
        reason = consumer.readiness()

    assert "no poll for 60 s" in (reason or "")


async def test_a_consumer_without_a_broker_can_be_stopped(group):
    async with consuming(f"127.0.0.1:{free_port()}", "nothing", group, Handler()) as consumer:
        assert consumer.readiness() == "not in the consumer group yet"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_record_may_be_compressed_in_any_way(kafka_bootstrap, topic, group, codec):
    handler = Handler()
    async with a_producer(kafka_bootstrap, compression_type=codec) as producer:
        await producer.send_and_wait(topic, b"7")

    async with consuming(kafka_bootstrap, topic, group, handler):
        await handler.has(1)

    assert handler.values == [7]


async def test_a_stop_while_records_arrive_does_not_wait_for_the_drain(kafka_bootstrap, topic, group):
    handler = Handler()

    async def stream():
        async with a_producer(kafka_bootstrap) as producer:
            while True:
                await producer.send_and_wait(topic, b"7")

    streaming = asyncio.create_task(stream())
    consumer = await stopped_while_records_arrive(kafka_bootstrap, topic, group, handler)
    await cancel_and_wait(streaming)

    assert all(record.acked for record in handler.records)
    assert consumer.in_flight == 0


async def stopped_while_records_arrive(bootstrap, topic, group, handler):
    """A consumer that was stopped while records arrived; its drain timeout is longer than the test."""
    async with consuming(bootstrap, topic, group, handler, drain=1000) as consumer:
        await handler.has(20)
    return consumer


@pytest.mark.parametrize(
    ("task", "fault"),
    [
        ("_coordinator._coordination_task", "nothing polls the Kafka client any more"),
        ("_fetcher._fetch_task", "the fetching of the Kafka client has ended"),
    ],
)
async def test_a_consumer_ends_with_a_task_of_its_client(kafka_bootstrap, topic, group, task, fault):
    handler = Handler()
    await numbers(kafka_bootstrap, topic, 1)

    async def without_the_task():
        async with consuming(kafka_bootstrap, topic, group, handler) as consumer:
            await handler.has(1)
            attrgetter(task)(consumer._client).cancel()
            await asyncio.sleep(3)

    with pytest.raises(SluiceError, match=fault):
        await without_the_task()
