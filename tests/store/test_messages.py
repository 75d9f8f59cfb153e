"""Queries of messages and of the sandbox's captured messages."""

from sluice.model import ids
from sluice.model.state import EventType, State
from sluice.store import messages, sandbox
from sluice.store.outbox import events_for
from tests.examples import NOON, OTHER_PROJECT, PROJECT, a_claim, a_message, a_transition, after
from tests.store.harness import FAILED_ATTEMPT, SENT


async def test_a_message_is_found_with_its_deliveries_and_their_history(store):
    message = a_message(to=("a@example.com", "b@example.com"), tags=("t",), metadata="{}")
    await store.accept(message)
    first = message.deliveries[0].id
    await store.claim(a_claim(first), at=after(1))
    await store.transition(a_transition(first, SENT, outcome="accepted", occurred_at=after(2)))

    found = await store.find(message.id)

    assert {(one.recipient, one.state) for one in found.deliveries} == {
        ("a@example.com", State.SENT),
        ("b@example.com", State.QUEUED),
    }
    assert [(event.type, event.recipient) for event in found.events if event.recipient == "a@example.com"] == [
        ("accepted", "a@example.com"),
        ("sending", "a@example.com"),
        ("sent", "a@example.com"),
    ]
    assert (found.state, found.tags, found.metadata) == (State.QUEUED, ("t",), "{}")


async def test_the_events_of_a_delivery_are_in_sequence_order(store):
    delivery_id = await store.a_delivery()
    await store.claim(a_claim(delivery_id), at=after(5))
    # The settling worker's clock is behind that of the claiming worker.
    await store.transition(a_transition(delivery_id, SENT, outcome="accepted", occurred_at=after(3)))
    (message,) = await store.pool.fetch("SELECT id FROM messages")

    found = await store.find(message["id"])

    assert [event.type for event in found.events] == ["accepted", "sending", "sent"]


async def test_another_projects_message_is_not_found(store):
    message = a_message()
    await store.accept(message)

    assert await store.find(message.id, OTHER_PROJECT) is None


async def test_messages_of_one_millisecond_have_their_own_deliveries(store):
    one, other = a_message(to=("one@example.com",)), a_message(to=("other@example.com",))
    await store.accept(one, other)

    found = await store.find(other.id)

    assert [delivery.recipient for delivery in found.deliveries] == ["other@example.com"]


async def test_attachments_are_loaded_by_hash(store):
    await store.accept(a_message(attachments=(("digest", b"hello"),)))

    assert await messages.load_attachments(store.worker, PROJECT, ["digest", "missing"]) == {"digest": b"hello"}
    assert await messages.load_attachments(store.worker, OTHER_PROJECT, ["digest"]) == {}


async def test_an_event_that_ends_no_attempt_is_published_without_an_outcome(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="provider_fault", duration_ms=7)

    applied = await store.transition(a_transition(delivery_id, EventType.POSTPONED, in_flight=False, due_at=after(9)))

    (event,) = await events_for(store.router, applied.outbox_id)
    assert (event["type"], event["attempt"], event["outcome"], event["duration_ms"]) == ("postponed", 1, None, None)


async def test_an_event_that_ends_an_attempt_is_published_with_its_outcome(store):
    delivery_id = await store.a_delivery_in_flight()

    shown = {"outcome": "throttled", "scope": "recipient", "retry_after_s": 1.5, "duration_ms": 0}
    applied = await store.transition(a_transition(delivery_id, FAILED_ATTEMPT, **shown))

    (event,) = await events_for(store.router, applied.outbox_id)
    assert {name: event[name] for name in shown} == shown


async def capture(store, message, reference):
    await sandbox.capture(
        store.worker,
        reference=reference,
        message_id=message.id,
        recipient="ada@example.com",
        content=message.content,
        at=NOON,
        timeout=5,
    )


async def test_the_sandbox_captures_a_reference_once(store):
    message = a_message()
    await store.accept(message)
    reference = ids.attempt_reference(message.deliveries[0].id, 1)

    await capture(store, message, reference)
    await capture(store, message, reference)

    (captured,) = await sandbox.list_captured(store.operator, project_id=PROJECT, limit=10)
    assert (captured.reference, captured.message_id, captured.content) == (reference, message.id, message.content)


async def test_only_the_projects_own_captured_messages_are_listed(store):
    message = a_message()
    await store.accept(message)
    await capture(store, message, "att_1")

    assert await sandbox.list_captured(store.operator, project_id=OTHER_PROJECT, limit=10) == []
