"""Taking messages back: all of it or nothing, and never what may have been handed over."""

import pytest

from sluice.store import cancellation
from tests.examples import NOON, OTHER_PROJECT, a_claim, a_message, a_transition, after
from tests.store.harness import FAILED_ATTEMPT, at_once

pytestmark = pytest.mark.store


@pytest.fixture
async def message(record):
    message = a_message(to=("a@example.com", "b@example.com"))
    await record.accept(message)
    return message


def ids(message):
    return [delivery.id for delivery in message.deliveries]


async def states(record, message):
    return [await record.state(delivery_id) for delivery_id in ids(message)]


async def test_a_queued_message_is_cancelled(record, message):
    done = await record.cancel(message.id)

    assert await states(record, message) == ["CANCELLED", "CANCELLED"]
    assert {event["delivery_id"] for event in done.events} == set(ids(message))
    assert await record.due(after(9999), low_watermarks=after(9999)) == []


async def test_a_cancel_is_part_of_the_history(record, message):
    await record.cancel(message.id)

    assert await record.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_a_cancel_is_announced(record, message):
    done = await record.cancel(message.id)

    covered = await record.announced(done.announcement)
    assert {(event["delivery_id"], event["kind"]) for event in covered} == {
        (delivery_id, "cancelled") for delivery_id in ids(message)
    }


async def test_a_second_cancel_succeeds_and_adds_nothing(record, message):
    await record.cancel(message.id)

    again = await record.cancel(message.id)

    assert (again.events, again.announcement) == ([], None)
    assert await record.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_nothing_is_cancelled_when_one_delivery_is_on_its_way(record, message):
    await record.claim(a_claim(ids(message)[0]))

    assert await record.cancel(message.id) is None
    assert await states(record, message) == ["SENDING", "QUEUED"]


async def test_what_may_have_been_sent_is_not_cancelled(record, message):
    delivery_id = ids(message)[0]
    await record.claim(a_claim(delivery_id))
    await record.step(a_transition(delivery_id, FAILED_ATTEMPT, outcome="unknown", ambiguous=True, due_at=after(60)))

    assert await record.cancel(message.id) is None


async def test_what_was_definitely_not_sent_yet_is_cancelled(record, message):
    delivery_id = ids(message)[0]
    await record.claim(a_claim(delivery_id))
    await record.step(a_transition(delivery_id, FAILED_ATTEMPT, outcome="provider_fault", due_at=after(60)))

    assert await record.cancel(message.id) is not None
    assert await record.claim(a_claim(delivery_id, 2)) == []


async def test_another_projects_message_is_not_cancelled(record, message):
    assert await record.cancel(message.id, project=OTHER_PROJECT) is None
    assert await states(record, message) == ["QUEUED", "QUEUED"]


async def test_what_does_not_exist_is_not_cancelled(record):
    assert await record.cancel(a_message().id) is None


async def test_of_a_claim_and_a_cancel_at_once_exactly_one_wins(record):
    messages = [a_message() for _ in range(200)]
    await record.accept(*messages)

    async def race(message):
        won, done = await at_once(record.claim(a_claim(message.deliveries[0].id)), record.cancel(message.id))
        return bool(won), done is not None

    outcomes = await at_once(*[race(message) for message in messages])

    # A claim that found the row locked may lose to a cancel; never both, and never neither.
    assert set(outcomes) <= {(True, False), (False, True)}


async def test_cancels_at_once_are_one_cancel(record, message):
    done = await at_once(*[record.cancel(message.id) for _ in range(10)])

    assert all(done)
    assert await record.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_what_was_refused_in_doubt_is_withdrawn(record, message):
    assert await cancellation.revoke_in_doubt(record.pool, [message.id], now=NOON) == 2

    assert await states(record, message) == ["CANCELLED", "CANCELLED"]
    assert await record.history(ids(message)[0]) == ["accepted", "cancelled"]


async def test_what_never_came_to_be_is_not_withdrawn(record):
    assert await cancellation.revoke_in_doubt(record.pool, [a_message().id], now=NOON) == 0


async def test_what_is_already_on_its_way_is_not_withdrawn(record, message):
    await record.claim(a_claim(ids(message)[0]))

    await cancellation.revoke_in_doubt(record.pool, [message.id], now=NOON)

    assert await states(record, message) == ["SENDING", "CANCELLED"]


async def test_messages_of_other_callers_are_not_withdrawn(record, message):
    other = a_message()
    await record.accept(other)

    await cancellation.revoke_in_doubt(record.pool, [other.id], now=NOON)

    assert await states(record, message) == ["QUEUED", "QUEUED"]
