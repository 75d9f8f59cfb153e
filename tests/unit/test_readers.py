"""Readers without a consumer group: a Kafka client whose stop does not end holds up none of them."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from gateway.events import source
from gateway.events.source import KafkaEventSource
from sluice.bus import uncommitted
from sluice.bus.connection import KafkaConnection
from sluice.bus.topics import Topic
from sluice.bus.uncommitted import read_first_records
from sluice.health import view as health_view
from sluice.health.view import HealthView
from sluice.runtime.settings import KafkaSettings
from tests.polling import virtual_time

KAFKA = KafkaConnection(KafkaSettings(kafka_bootstrap_servers="b1:9092"))


class EndlessStop:
    """A client whose connection is lost at the first read, and whose stop does not end."""

    def __init__(self):
        self.stopping = False

    async def start(self):
        pass

    async def stop(self):
        self.stopping = True
        await asyncio.Event().wait()

    def assign(self, partitions):
        pass

    def seek(self, partition, offset):
        pass

    async def seek_to_beginning(self, *partitions):
        pass

    async def getmany(self, **options):
        raise KafkaError("the connection was lost")

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise KafkaError("the connection was lost")


@pytest.fixture
def clients(monkeypatch):
    """The clients that were opened, the first one first."""
    opened = []

    def open_client(*_arguments, **_options):
        opened.append(EndlessStop())
        return opened[-1]

    async def connected(*arguments, **options):
        return open_client()

    monkeypatch.setattr(health_view, "connected", connected)
    monkeypatch.setattr(source, "connected", connected)
    monkeypatch.setattr(uncommitted, "create_reader", open_client)
    return opened


async def test_the_health_view_connects_again(clients):
    with virtual_time():
        async with HealthView().subscribed(KAFKA):
            async with asyncio.timeout(60):
                while len(clients) < 3:
                    await asyncio.sleep(1)

    assert clients[0].stopping


async def test_the_event_source_ends_with_the_error_of_its_reading(clients, monkeypatch):
    async def no_partitions(*_arguments):
        raise KafkaError("the connection was lost")

    monkeypatch.setattr(source, "partitions_of", no_partitions)
    with virtual_time(), pytest.raises(KafkaError):
        async with asyncio.timeout(60), KafkaEventSource(KAFKA).open((), 10):
            pass

    assert clients[0].stopping


async def test_reading_uncommitted_records_ends_with_its_error(clients):
    ranges = {TopicPartition(Topic.EMAIL.value, 0): (0, 1)}
    with virtual_time(), pytest.raises(KafkaError):
        async with asyncio.timeout(60):
            await read_first_records(KAFKA, ranges)

    assert clients[0].stopping
