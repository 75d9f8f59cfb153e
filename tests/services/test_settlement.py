"""Settlement: transitions that are written together."""

import asyncio

import pytest

from sluice.bus.messages import DeliveryEvent
from sluice.delivery.retry_policy import defer, expire
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.runtime.clock import utc_now
from tests.examples import a_message, a_task, seconds


@pytest.fixture
async def settlements(store, bus):
    async with SettlementWriter(store.router, bus).running() as settlements:
        yield settlements


async def tasks(store, count):
    """The tasks of ``count`` deliveries that were just accepted and expire at once."""
    messages = [a_message(utc_now(), expires_at=utc_now()) for _ in range(count)]
    await store.accept(*messages)
    return [a_task(delivery_id=one.deliveries[0].id, message_id=one.id) for one in messages]


async def test_two_transitions_of_a_delivery_in_one_batch_are_written_in_order(store, bus, settlements):
    one, other = await tasks(store, 2)
    now = utc_now()
    settled = [
        Settlement(one, defer(one, until=now + seconds(60), reason="suspended", at=now)),
        Settlement(one, expire(one, at=now)),
        Settlement(other, expire(other, at=now)),
    ]

    assert await asyncio.gather(*map(settlements.settle, settled)) == [True, True, True]

    assert await store.history(one.delivery_id) == ["accepted", "postponed", "expired"]
    assert await store.history(other.delivery_id) == ["accepted", "expired"]
    events = [DeliveryEvent.model_validate_json(value) for value in bus.on("delivery.events")]
    assert {(event.delivery_id, event.sequence, event.type.value) for event in events} == {
        (one.delivery_id, 2, "postponed"),
        (one.delivery_id, 3, "expired"),
        (other.delivery_id, 2, "expired"),
    }


async def test_each_settlement_of_a_batch_has_its_own_result(store, settlements):
    one, other = await tasks(store, 2)
    now = utc_now()
    settled = [Settlement(task, expire(task, at=now)) for task in (one, one, other)]

    assert await asyncio.gather(*map(settlements.settle, settled)) == [True, False, True]
