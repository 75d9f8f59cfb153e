"""Counters behind alerts on single events exist before their first event, which a rate does not see otherwise."""

import pytest
from faststream import AckPolicy
from prometheus_client import REGISTRY

from sluice.bus.connection import KafkaConnection
from sluice.bus.subscriber import create_broker, subscribe_to_batches
from sluice.runtime.settings import Settings
from sluice.store import disagreements


@pytest.mark.parametrize("field", disagreements.FIELDS)
def test_disagreements_of_each_field_count_from_zero(field):
    assert REGISTRY.get_sample_value("sluice_bus_disagreements_total", {"field": field}) is not None


def test_dead_letters_of_a_subscribed_topic_count_from_zero():
    settings = Settings(postgres_dsn="postgresql://nowhere", kafka_bootstrap_servers="nowhere:1")
    broker = create_broker(KafkaConnection(settings), name="counters", drain=1)

    subscribe_to_batches(broker, "counted", group="counters", ack_policy=AckPolicy.ACK, auto_offset_reset="latest")

    assert REGISTRY.get_sample_value("sluice_dead_lettered_records_total", {"topic": "counted"}) == 0
