"""Cancellation: all deliveries of a message or none, and never one that a provider may have received."""

import pytest

from tests.examples import OTHER_PROJECT, a_claim, a_message, a_transition, after
from tests.store.harness import FAILED_ATTEMPT, at_once


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


async def test_a_cancellation_is_an_event(store, message):
    await store.cancel(message.id)

    assert await store.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_a_cancellation_has_an_outbox_row(store, message):
    done = await store.cancel(message.id)

    covered = await store.outbox_rows(done.outbox_id)
    assert {(event["delivery_id"], event["type"]) for event in covered} == {
        (delivery_id, "cancelled") for delivery_id in ids(message)
    }


async def test_a_second_cancellation_succeeds_and_adds_no_event(store, message):
    await store.cancel(message.id)

    again = await store.cancel(message.id)

    assert (again.events, again.outbox_id) == ([], None)
    assert await store.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_nothing_is_cancelled_when_one_delivery_is_in_flight(store, message):
    await store.claim(a_claim(ids(message)[0]))

    assert await store.cancel(message.id) is None
    assert await states(store, message) == ["SENDING", "QUEUED"]


async def test_a_delivery_that_may_have_been_sent_is_not_cancelled(store, message):
    delivery_id = ids(message)[0]
    await store.claim(a_claim(delivery_id))
    await store.transition(a_transition(delivery_id, FAILED_ATTEMPT, outcome="unknown", unknown=True, due_at=after(60)))

    assert await store.cancel(message.id) is None


async def test_a_delivery_that_was_definitely_not_sent_is_cancelled(store, message):
    delivery_id = ids(message)[0]
    await store.claim(a_claim(delivery_id))
    await store.transition(a_transition(delivery_id, FAILED_ATTEMPT, outcome="provider_fault", due_at=after(60)))

    assert await store.cancel(message.id) is not None
    assert await store.claim(a_claim(delivery_id, 2)) == []


async def test_another_projects_message_is_not_cancelled(store, message):
    assert await store.cancel(message.id, project=OTHER_PROJECT) is None
    assert await states(store, message) == ["QUEUED", "QUEUED"]


async def test_a_missing_message_is_not_cancelled(store):
    assert await store.cancel(a_message().id) is None


async def test_of_a_concurrent_claim_and_cancellation_exactly_one_succeeds(store):
    messages = [a_message() for _ in range(200)]
    await store.accept(*messages)

    async def race(message):
        won, done = await at_once(store.claim(a_claim(message.deliveries[0].id)), store.cancel(message.id))
        return bool(won), done is not None

    outcomes = await at_once(*[race(message) for message in messages])

    # Exactly one of the two succeeds for each message.
    assert set(outcomes) <= {(True, False), (False, True)}


async def test_concurrent_cancellations_write_one_event(store, message):
    done = await at_once(*[store.cancel(message.id) for _ in range(10)])

    assert all(done)
    assert await store.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_an_in_doubt_message_is_revoked(store, message):
    assert await store.revoke(message.id) == 2

    assert await states(store, message) == ["CANCELLED", "CANCELLED"]
    assert await store.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_a_missing_message_is_not_revoked(store):
    assert await store.revoke(a_message().id) == 0


async def test_a_delivery_in_flight_is_not_revoked(store, message):
    await store.claim(a_claim(ids(message)[0]))

    await store.revoke(message.id)

    assert await states(store, message) == ["SENDING", "CANCELLED"]


async def test_other_messages_are_not_revoked(store, message):
    other = a_message()
    await store.accept(other)

    await store.revoke(other.id)

    assert await states(store, message) == ["QUEUED", "QUEUED"]
