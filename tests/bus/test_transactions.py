"""Records of transactions: an aborted one never happened, and an open one has not happened yet."""

import asyncio
import uuid
from contextlib import asynccontextmanager, nullcontext

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faststream import AckPolicy

from sluice.bus.connection import KafkaConnection
from sluice.bus.consumer import Consumer
from sluice.bus.progress import QueueProgress
from sluice.bus.reader import create_reader
from sluice.bus.subscriber import SubscriberRunner, subscribe_to_batches
from sluice.bus.topics import Topic
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from tests.bus.bus import a_producer, an_admin, committed, is_committed, put
from tests.examples import a_task
from tests.polling import wait_until


@asynccontextmanager
async def a_transactional_producer(bootstrap):
    async with a_producer(bootstrap, transactional_id=f"orders-{uuid.uuid4().hex[:8]}") as producer:
        yield producer


async def send_in_transaction(producer: AIOKafkaProducer, topic, *values, abort=False):
    await producer.begin_transaction()
    for value in values:
        await producer.send_and_wait(topic, value, partition=0)
    await (producer.abort_transaction() if abort else producer.commit_transaction())


class Values:
    """What a consumer was given, whichever kind it is."""

    def __init__(self):
        self.seen = []

    async def of_consumer(self, records):
        self.seen += [record.value for record in records]
        for record in records:
            record.ack()

    async def of_subscriber(self, records):
        self.seen += [record.value for record in records]


def a_consumer(bootstrap, topic, group, values):
    return Consumer([topic], values.of_consumer, kafka=KafkaConnection.to(bootstrap), group=group)


def a_subscriber(bootstrap, topic, group, values):
    def declare(broker):
        subscriber = subscribe_to_batches(
            broker,
            topic,
            group=group,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        subscriber(values.of_subscriber)
        return subscriber

    return SubscriberRunner(declare, kafka=KafkaConnection.to(bootstrap), group=group)


@asynccontextmanager
async def running(kind, bootstrap, topic, group):
    """A consumer of that kind until the block ends; gives what it has read."""
    values = Values()
    consumer = kind(bootstrap, topic, group, values)
    task = asyncio.create_task(consumer.run())
    try:
        yield values
    finally:
        consumer.stop()
        await asyncio.wait_for(task, 30)


KINDS = pytest.mark.parametrize("kind", [a_consumer, a_subscriber])


@KINDS
async def test_f1_a_record_of_an_aborted_transaction_is_not_consumed(kafka_bootstrap, topic, group, kind):
    async with a_transactional_producer(kafka_bootstrap) as producer:
        await send_in_transaction(producer, topic, b"aborted 1", abort=True)
        await send_in_transaction(producer, topic, b"committed 1")
        await put(kafka_bootstrap, topic, b"plain")
        await send_in_transaction(producer, topic, b"aborted 2", b"aborted 3", abort=True)
        await send_in_transaction(producer, topic, b"committed 2")

    async with running(kind, kafka_bootstrap, topic, group) as values:
        await wait_until(lambda: len(values.seen) >= 3)

    assert values.seen == [b"committed 1", b"plain", b"committed 2"]


@KINDS
@pytest.mark.parametrize("abort", [False, True])
async def test_f1_a_record_of_an_open_transaction_waits_for_its_end(kafka_bootstrap, topic, group, kind, abort):
    async with a_transactional_producer(kafka_bootstrap) as producer, running(kind, kafka_bootstrap, topic, group) as v:
        await put(kafka_bootstrap, topic, b"before")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", partition=0)
        await put(kafka_bootstrap, topic, b"behind")
        await wait_until(lambda: v.seen == [b"before"])
        await asyncio.sleep(0.5)
        while_open = list(v.seen)
        await (producer.abort_transaction() if abort else producer.commit_transaction())
        await wait_until(lambda: b"behind" in v.seen)

    assert while_open == [b"before"]
    assert v.seen == ([b"before", b"behind"] if abort else [b"before", b"open", b"behind"])


async def test_f1_the_broker_ends_an_abandoned_transaction_after_a_minute_at_most(kafka_bootstrap):
    """An open transaction holds back its partitions: no producer may keep one open for longer."""
    for allowed, timeout in ((True, 60_000), (False, 60_001)):
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka_bootstrap, transactional_id="abandoned", transaction_timeout_ms=timeout
        )
        try:
            with nullcontext() if allowed else pytest.raises(KafkaError, match=r"(?i)timeout"):
                await producer.start()
        finally:
            await producer.stop()


async def test_f1_readers_without_a_group_skip_aborted_records_too(kafka_bootstrap, topic):
    async with a_transactional_producer(kafka_bootstrap) as producer:
        await send_in_transaction(producer, topic, b"aborted", abort=True)
        await send_in_transaction(producer, topic, b"committed")
    reader = create_reader(KafkaConnection.to(kafka_bootstrap))
    await reader.start()
    try:
        reader.subscribe([topic])
        first = await asyncio.wait_for(reader.getone(), 20)
    finally:
        await reader.stop()

    assert first.value == b"committed"


@pytest.mark.parametrize("abort", [False, True])
async def test_f11_the_group_does_not_lag_behind_a_transaction(kafka_bootstrap, admin, topic, group, abort):
    async with running(a_consumer, kafka_bootstrap, topic, group):
        async with a_transactional_producer(kafka_bootstrap) as producer:
            await send_in_transaction(producer, topic, b"0", b"1", abort=abort)
        await wait_until(lambda: is_committed(admin, group, topic, 3))  # two records and the control record


async def test_f11_the_offset_stays_below_a_record_in_flight_before_a_control_record(
    kafka_bootstrap, admin, topic, group
):
    held = []

    async def hold(records):
        held.extend(records)

    consumer = Consumer([topic], hold, kafka=KafkaConnection.to(kafka_bootstrap), group=group)
    task = asyncio.create_task(consumer.run())
    try:
        async with a_transactional_producer(kafka_bootstrap) as producer:
            await send_in_transaction(producer, topic, b"0", b"1")
            await wait_until(lambda: len(held) == 2)
            await send_in_transaction(producer, topic, b"aborted", abort=True)
        held[1].ack()
        polled = consumer.polled_at
        await wait_until(lambda: consumer.polled_at > polled + 0.5)  # the committer has run meanwhile
        before = await committed(admin, group, topic)
        held[0].ack()
        await wait_until(lambda: is_committed(admin, group, topic, 5))
    finally:
        consumer.stop()
        await asyncio.wait_for(task, 30)

    assert before in (None, 0)


async def test_f11_control_records_do_not_hold_the_low_watermark(kafka_bootstrap, make_topic, topic):
    async with an_admin(kafka_bootstrap) as admin:
        missing = [one.value for one in QueueProgress.READERS if one.value not in await admin.list_topics()]
    for name in missing:
        await make_topic(name=name)
    async with a_transactional_producer(kafka_bootstrap) as producer:
        await send_in_transaction(producer, Topic.PUSH.value, a_task().encode(), abort=True)

    before = utc_now()
    marks = await QueueProgress(KafkaConnection.to(kafka_bootstrap)).low_watermarks()

    assert marks[Channel.PUSH] >= before
