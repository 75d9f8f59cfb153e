"""Kafka as `sluice up` starts it: clients log in, and other services may use two topics."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from sluice.bus.connection import KafkaConnection, explain
from sluice.bus.topic_admin import ensure_topics, grant_producer
from sluice.bus.topics import Topic
from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import KafkaSettings
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.plan import PRODUCER
from tests.polling import wait_until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("kafka-login")]
QUICK = {"request_timeout_ms": 5_000, "retry_backoff_ms": 50}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with LocalStack(tmp_path_factory.mktemp("kafka-login"), services=["kafka"], testing=False) as stack:
        roles = connection(stack)
        asyncio.run(ensure_topics(roles))
        asyncio.run(grant_producer(roles, PRODUCER))
        asyncio.run(wait_until(lambda: is_granted(producer(stack))))  # a broker applies it after the controller
        yield stack


async def is_granted(kafka):
    with suppress(TopicAuthorizationFailedError):
        await publish(kafka, Topic.SEND_REQUESTS)
        return True


def connection(stack, **changes):
    environment = stack.environment
    named = {name: environment.get(f"SLUICE_{name.upper()}") for name in KafkaSettings.model_fields}
    return KafkaConnection(KafkaSettings(**{name: value for name, value in (named | changes).items() if value}))


def producer(stack):
    password = (Path(stack.environment["SLUICE_DATA_DIR"]) / "kafka-producer.password").read_text()
    return connection(stack, kafka_username=PRODUCER, kafka_password=password)


@pytest.fixture
def producer_login(stack):
    return producer(stack)


async def publish(kafka, topic):
    producer = AIOKafkaProducer(**kafka.options(), **QUICK)
    try:
        await producer.start()
        await asyncio.wait_for(producer.send_and_wait(topic, b"value", b"key", partition=0), 10)
    finally:
        await producer.stop()


async def read(kafka, topic, *, group=None, timeout_ms=15_000):
    consumer = AIOKafkaConsumer(**kafka.options(), **QUICK, group_id=group, auto_offset_reset="earliest")
    try:
        await consumer.start()
        consumer.assign([TopicPartition(topic, 0)])
        if group is not None:
            await consumer.commit({TopicPartition(topic, 0): 0})
        return await consumer.getmany(timeout_ms=timeout_ms)
    finally:
        await consumer.stop()


async def test_finding_8_a_client_without_a_login_gets_nothing(stack):
    anonymous = KafkaConnection(KafkaSettings(kafka_bootstrap_servers=stack.addresses["kafka"]))

    with pytest.raises(KafkaError):
        await asyncio.wait_for(read(anonymous, Topic.SEND_REQUESTS), 15)


@pytest.mark.parametrize("user", ["sluice", PRODUCER, "stranger", "controller"])
async def test_finding_8_a_wrong_password_is_refused_with_a_clear_error(stack, user):
    wrong = connection(stack, kafka_username=user, kafka_password="wrong")

    assert "uthentication failed" in await explain(wrong)
    with pytest.raises(SluiceError, match="uthentication failed"):
        await ensure_topics(wrong)


async def test_finding_8_another_service_publishes_requests_and_reads_events(producer_login, stack):
    await publish(producer_login, Topic.SEND_REQUESTS)
    await publish(connection(stack), Topic.EVENTS)

    assert await read(producer_login, Topic.EVENTS, group=f"{PRODUCER}-reports")


@pytest.mark.parametrize("topic", [topic for topic in Topic if topic is not Topic.SEND_REQUESTS])
async def test_finding_8_another_service_cannot_publish_elsewhere(producer_login, topic):
    with pytest.raises(TopicAuthorizationFailedError):
        await publish(producer_login, topic)


@pytest.mark.parametrize("topic", [topic for topic in Topic if topic is not Topic.EVENTS])
async def test_finding_8_another_service_cannot_read_elsewhere(producer_login, stack, topic):
    await publish(connection(stack), topic)

    assert await read(connection(stack), topic)
    with suppress(TopicAuthorizationFailedError):
        assert not await read(producer_login, topic, timeout_ms=1_500)


async def test_another_service_cannot_move_the_offsets_of_a_role(producer_login):
    with pytest.raises(GroupAuthorizationFailedError):
        await read(producer_login, Topic.EVENTS, group="health")


def test_no_password_is_in_a_command_line_or_a_readable_file(stack):
    data_dir = Path(stack.environment["SLUICE_DATA_DIR"])
    passwords = [path.read_text() for path in data_dir.glob("*.password")]
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            lines.append(path.read_bytes())
    shown = []
    for path in data_dir.rglob("*"):
        with suppress(FileNotFoundError):  # Kafka renames files
            if path.is_file() and path.stat().st_mode & 0o077:
                shown += [path for text in passwords if text.encode() in path.read_bytes()]

    assert len(passwords) == 4  # Redis and three of Kafka
    assert not any(text.encode() in line for text in passwords for line in lines)
    assert shown == []
