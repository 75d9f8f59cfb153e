"""Consumer lag in records and seconds, of groups that run and of groups that do not."""

import math

import pytest
from aiokafka.errors import KafkaError

from sluice.bus import lag as lag_module
from sluice.bus.connection import KafkaConnection
from sluice.bus.lag import LagMonitor
from sluice.bus.topics import SUBSCRIPTIONS, Group, Topic
from sluice.runtime import metrics
from sluice_launcher.process_info import free_port
from tests.bus.bus import Handler, a_producer, consuming, is_committed, put
from tests.polling import wait_until

TOPICS = sorted({topic for topics in SUBSCRIPTIONS.values() for topic in topics})


@pytest.fixture
async def topics(make_topic, admin):
    """Every topic that a group consumes, empty and without committed offsets."""
    for topic in TOPICS:
        await make_topic(name=topic.value, partitions=2)
    await wait_until(lambda: nothing_is_committed(admin))


async def nothing_is_committed(admin):
    groups = [await admin.list_consumer_group_offsets(group.value) for group in Group]
    return not any(offset.offset >= 0 for group in groups for offset in group.values())


@pytest.fixture
def monitor(kafka_bootstrap):
    return LagMonitor(KafkaConnection.to(kafka_bootstrap))


def lag(topic, group):
    """Records and seconds."""
    labels = {"topic": topic.value, "group": group.value}
    values = {}
    for metric in (metrics.CONSUMER_LAG, metrics.CONSUMER_LAG_AGE):
        for sample in metric.collect()[0].samples:
            if sample.labels == labels:
                values[sample.name] = sample.value
    return values["sluice_consumer_lag_records"], values["sluice_consumer_lag_seconds"]


async def test_every_group_and_topic_is_measured(topics, monitor):
    await monitor.measure()

    assert {(topic, group): lag(topic, group) for group, found in SUBSCRIPTIONS.items() for topic in found} == {
        (topic, group): (0, 0) for group, found in SUBSCRIPTIONS.items() for topic in found
    }


async def test_the_lag_of_a_group_without_a_consumer_is_all_records_and_the_age_of_the_oldest(
    kafka_bootstrap, topics, monitor
):
    async with a_producer(kafka_bootstrap) as producer:
        for partition, timestamp in ((0, 1_700_000_000_000), (1, 1_700_000_100_000)):
            await producer.send_and_wait(Topic.SEND_REQUESTS, b"1", partition=partition, timestamp_ms=timestamp)
    await put(kafka_bootstrap, Topic.SMS, b"1", b"2", b"3")

    await monitor.measure()

    records, age = lag(Topic.SEND_REQUESTS, Group.INGEST)
    assert records == 2
    assert age > 86_400
    assert lag(Topic.SMS, Group.SMS_WORKER)[0] == 3
    assert lag(Topic.SIGNAL, Group.SMS_WORKER) == (0, 0)


async def test_committed_records_are_no_lag(kafka_bootstrap, admin, topics, monitor):
    await put(kafka_bootstrap, Topic.EMAIL, b"1", b"2")
    handler = Handler()
    async with consuming(kafka_bootstrap, Topic.EMAIL, Group.EMAIL_WORKER, handler):
        await handler.has(2)
        await wait_until(lambda: is_committed(admin, Group.EMAIL_WORKER, Topic.EMAIL, 2))
    await put(kafka_bootstrap, Topic.EMAIL, b"3")

    await monitor.measure()

    assert lag(Topic.EMAIL, Group.EMAIL_WORKER)[0] == 1


async def test_groups_of_one_topic_have_their_own_lag(kafka_bootstrap, topics, monitor):
    """Health begins with the latest records, and has none to read before it has started; event-worker reads all."""
    await put(kafka_bootstrap, Topic.EVENTS, b"1", b"2")

    await monitor.measure()

    assert lag(Topic.EVENTS, Group.EVENT_WORKER)[0] == 2
    assert lag(Topic.EVENTS, Group.HEALTH) == (0, 0)


async def test_without_a_broker_the_lag_is_unknown():
    with pytest.raises(KafkaError):
        await LagMonitor(KafkaConnection.to(f"127.0.0.1:{free_port()}")).measure()


async def test_a_group_whose_oldest_record_cannot_be_read_has_a_lag_without_an_age(
    kafka_bootstrap, topics, monitor, monkeypatch
):
    await put(kafka_bootstrap, Topic.PUSH, b"1")

    async def unreadable(_kafka, ranges):
        raise KafkaError("no leader")

    monkeypatch.setattr(lag_module, "read_first_records", unreadable)
    await monitor.measure()

    records, age = lag(Topic.PUSH, Group.PUSH_WORKER)
    assert (records, math.isnan(age)) == (1, True)


def test_every_group_has_topics():
    assert set(SUBSCRIPTIONS) == set(Group)
