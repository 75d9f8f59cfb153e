"""Taking messages back: all of it or nothing, and never what may have been handed over."""

import pytest

from sluice.store import cancellation
from tests.examples import NOON, OTHER_PROJECT, a_claim, a_message, a_transition, after
from tests.store.harness import FAILED_ATTEMPT, at_once

pytestmark = pytest.mark.store


@pytest.fixture
async def message(store):
    message = a_message(to=("a@example.com", "b@example.com"))
    await store.accept(message)
    return message


def ids(message):
    return [delivery.id for delivery in message.deliveries]


async def states(store, message):
    return [await store.state(delivery_id) for delivery_id in ids(message)]


async def test_a_queued_message_is_cancelled(store, message):
    done = await store.cancel(message.id)

    assert await states(store, message) == ["CANCELLED", "CANCELLED"]
    assert {event["delivery_id"] for event in done.events} == set(ids(message))
    assert await store.due(after(9999), low_watermarks=after(9999)) == []


async def test_a_cancel_is_part_of_the_history(store, message):
    await store.cancel(message.id)

    assert await store.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_a_cancel_is_announced(store, message):
    done = await store.cancel(message.id)

    covered = await store.outbox_rows(done.outbox_id)
    assert {(event["delivery_id"], event["type"]) for event in covered} == {
        (delivery_id, "cancelled") for delivery_id in ids(message)
    }


async def test_a_second_cancel_succeeds_and_adds_nothing(store, message):
    await store.cancel(message.id)

    again = await store.cancel(message.id)

    assert (again.events, again.outbox_id) == ([], None)
    assert await store.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_nothing_is_cancelled_when_one_delivery_is_on_its_way(store, message):
    await store.claim(a_claim(ids(message)[0]))

    assert await store.cancel(message.id) is None
    assert await states(store, message) == ["SENDING", "QUEUED"]


async def test_what_may_have_been_sent_is_not_cancelled(store, message):
    delivery_id = ids(message)[0]
    await store.claim(a_claim(delivery_id))
    await store.transition(a_transition(delivery_id, FAILED_ATTEMPT, outcome="unknown", unknown=True, due_at=after(60)))

    assert await store.cancel(message.id) is None


async def test_what_was_definitely_not_sent_yet_is_cancelled(store, message):
    delivery_id = ids(message)[0]
    await store.claim(a_claim(delivery_id))
    await store.transition(a_transition(delivery_id, FAILED_ATTEMPT, outcome="provider_fault", due_at=after(60)))

    assert await store.cancel(message.id) is not None
    assert await store.claim(a_claim(delivery_id, 2)) == []


async def test_another_projects_message_is_not_cancelled(store, message):
    assert await store.cancel(message.id, project=OTHER_PROJECT) is None
    assert await states(store, message) == ["QUEUED", "QUEUED"]


async def test_what_does_not_exist_is_not_cancelled(store):
    assert await store.cancel(a_message().id) is None


async def test_of_a_claim_and_a_cancel_at_once_exactly_one_wins(store):
    messages = [a_message() for _ in range(200)]
    await store.accept(*messages)

    async def race(message):
        won, done = await at_once(store.claim(a_claim(message.deliveries[0].id)), store.cancel(message.id))
        return bool(won), done is not None

    outcomes = await at_once(*[race(message) for message in messages])

    # A claim that found the row locked may lose to a cancel; never both, and never neither.
    assert set(outcomes) <= {(True, False), (False, True)}


async def test_cancels_at_once_are_one_cancel(store, message):
    done = await at_once(*[store.cancel(message.id) for _ in range(10)])

    assert all(done)
    assert await store.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_what_was_refused_in_doubt_is_withdrawn(store, message):
    assert await cancellation.revoke_in_doubt(store.pool, [message.id], now=NOON) == 2

    assert await states(store, message) == ["CANCELLED", "CANCELLED"]
    assert await store.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_what_never_came_to_be_is_not_withdrawn(store):
    assert await cancellation.revoke_in_doubt(store.pool, [a_message().id], now=NOON) == 0


async def test_what_is_already_on_its_way_is_not_withdrawn(store, message):
    await store.claim(a_claim(ids(message)[0]))

    await cancellation.revoke_in_doubt(store.pool, [message.id], now=NOON)

    assert await states(store, message) == ["SENDING", "CANCELLED"]


async def test_messages_of_other_callers_are_not_withdrawn(store, message):
    other = a_message()
    await store.accept(other)

    await cancellation.revoke_in_doubt(store.pool, [other.id], now=NOON)

    assert await states(store, message) == ["QUEUED", "QUEUED"]
