"""Cancellation: all deliveries of a message or none, and never one that a provider may have received."""

import asyncio

import pytest

from sluice.model.ids import uuid7_like
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.store.splitting import Division, divide
from tests.examples import OTHER_PROJECT, a_claim, a_message, a_transition, after
from tests.polling import wait_until
from tests.store.harness import FAILED_ATTEMPT, SENT, at_once
from tests.store.test_receipts import a_receipt, apply


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


async def ends_before_a_provider(store, delivery_id, kind):
    """The delivery ends as of ``kind`` says, and no provider has it."""
    match kind:
        case "suppressed later":
            end = a_transition(delivery_id, EventType.FAILED, attempt=0, in_flight=False, reason=Reason.SUPPRESSED)
        case "expired":
            end = a_transition(delivery_id, EventType.EXPIRED, attempt=0, in_flight=False)
        case "refused":
            await store.claim(a_claim(delivery_id))
            end = a_transition(delivery_id, EventType.FAILED, outcome="recipient_rejected")
        case "refused and expired":
            await store.claim(a_claim(delivery_id))
            await store.transition(a_transition(delivery_id, FAILED_ATTEMPT, outcome="throttled", due_at=after(60)))
            end = a_transition(delivery_id, EventType.EXPIRED, in_flight=False)
    assert await store.transitioned(end) == {delivery_id}


@pytest.mark.parametrize("kind", ["suppressed later", "expired", "refused", "refused and expired"])
async def test_a_delivery_that_ended_without_a_provider_does_not_keep_the_others(store, message, kind):
    ended, other = ids(message)
    await ends_before_a_provider(store, ended, kind)
    before = await store.history(ended)

    done, again = await store.cancel(message.id), await store.cancel(message.id)

    assert await states(store, message) == ["EXPIRED" if "expired" in kind else "FAILED", "CANCELLED"]
    assert ([event["delivery_id"] for event in done.events], again.events) == ([other], [])
    assert await store.history(ended) == before
    assert (await store.find(message.id)).state == "CANCELLED"
    assert await store.claim(a_claim(other)) == []


async def test_a_recipient_that_is_suppressed_at_once_does_not_keep_the_others(store):
    message = a_message(to=("a@example.com", "b@example.com"))
    suppressed, other = message.deliveries
    message = message._replace(deliveries=(suppressed._replace(suppressed="complaint"), other))
    await store.accept(message)

    done = await store.cancel(message.id)

    assert await states(store, message) == ["FAILED", "CANCELLED"]
    assert [event["delivery_id"] for event in done.events] == [other.id]


@pytest.mark.parametrize("kind", ["suppressed later", "expired", "refused"])
async def test_a_message_without_an_open_delivery_is_not_cancelled(store, message, kind):
    for delivery_id in ids(message):
        await ends_before_a_provider(store, delivery_id, kind)

    assert await store.cancel(message.id) is None


async def test_a_failure_that_a_provider_reports_is_of_a_message_that_it_had(store, message):
    delivery_id = ids(message)[0]
    await store.claim(a_claim(delivery_id))
    await store.transition(a_transition(delivery_id, SENT, outcome="accepted"))
    await apply(store, a_receipt(delivery_id, EventType.FAILED))

    assert await store.cancel(message.id) is None
    assert await states(store, message) == ["FAILED", "QUEUED"]


async def test_a_delivery_that_failed_after_an_unknown_attempt_may_have_been_sent(store, message):
    delivery_id = ids(message)[0]
    await store.claim(a_claim(delivery_id))
    await store.transition(a_transition(delivery_id, FAILED_ATTEMPT, outcome="unknown", unknown=True, due_at=after(60)))
    await store.transition(a_transition(delivery_id, EventType.FAILED, in_flight=False))

    assert await store.cancel(message.id) is None


async def test_a_mail_that_is_divided_while_its_cancellation_waits_is_not_cancelled_in_part(store):
    """One recipient gets the mail, the other is tried again: the cancellation has waited for the lock of that one."""
    message = a_message(to=("a@example.com",))
    await store.accept(message)
    [delivery_id], other = ids(message), uuid7_like(message.id)
    await store.claim(a_claim(delivery_id))
    division = Division(delivery_id, 1, ("a@example.com",), ((other, ("b@example.com",)),))

    async with store.worker.acquire() as connection, connection.transaction():
        await divide(connection, [division])
        cancelling = asyncio.create_task(store.cancel(message.id))
        await wait_until(lambda: store.pool.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
        await connection.execute("UPDATE deliveries SET in_flight = false WHERE id = $1", delivery_id)
        await connection.execute("UPDATE deliveries SET in_flight = false, state = 'SENT' WHERE id = $1", other)

    assert await cancelling is None
    assert [await store.state(one) for one in (delivery_id, other)] == ["SENDING", "SENT"]


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
