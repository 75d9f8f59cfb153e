"""A restored database: what may have been sent since the backup, and events that nothing has."""

from datetime import timedelta

from sluice.model.ids import uuid7
from sluice.model.message import Channel, DeliveryClass
from sluice.model.state import EventType
from sluice.store import outbox, projects, providers, restored
from tests.examples import a_claim, a_transition, after
from tests.store.harness import SENT

NOW = after(60)
ALL = list(DeliveryClass)


async def end(store, *classes, now=NOW):
    return await restored.end_unconfirmed(store.pool, classes, detail="restored", now=now)


async def test_unsettled_deliveries_of_a_class_end_unconfirmed_with_one_event(store):
    queued = await store.a_delivery(delivery_class=DeliveryClass.ONCE)
    in_flight = await store.a_delivery_in_flight(delivery_class=DeliveryClass.ONCE)
    standard = await store.a_delivery()

    ended = await end(store, DeliveryClass.ONCE)

    assert ended == 2
    assert [await store.state(one) for one in (queued, in_flight, standard)] == ["UNCONFIRMED", "UNCONFIRMED", "QUEUED"]
    assert await store.history(queued) == ["accepted", "unconfirmed"]
    assert await store.history(in_flight) == ["accepted", "sending", "unconfirmed"]
    [attempt] = await store.attempts(in_flight)
    row = await store.pending(in_flight)
    assert (attempt["outcome"], attempt["error"]) == ("unknown", "restored")
    assert attempt["scope"] == "message"  # no evidence against the provider
    assert (row["due_at"], row["in_flight"], row["unknown_attempts"]) == (None, False, 1)
    assert (await store.pending(queued))["unknown_attempts"] == 0
    assert await end(store, *ALL) == 1


async def test_what_is_scheduled_for_later_and_what_is_settled_stays(store):
    later = await store.a_delivery(delivery_class=DeliveryClass.ONCE, send_at=after(3600), due_at=after(3600))
    sent = await store.a_delivery_in_flight()
    await store.transition(a_transition(sent, SENT))
    between = await store.a_delivery_in_flight()
    await store.transition(a_transition(between, EventType.ATTEMPT_FAILED, due_at=after(30)))

    ended = await end(store, *ALL)

    assert ended == 1
    assert [await store.state(one) for one in (later, sent, between)] == ["QUEUED", "SENT", "UNCONFIRMED"]
    assert await end(store, *ALL, now=after(3601)) == 1


async def test_more_than_one_batch_is_ended(store, monkeypatch):
    monkeypatch.setattr(restored, "_BATCH", 2)
    deliveries = [await store.a_delivery() for _ in range(5)]

    assert await end(store, DeliveryClass.STANDARD) == 5
    assert {await store.state(one) for one in deliveries} == {"UNCONFIRMED"}


async def test_a_worker_of_before_cannot_settle_what_was_ended(store):
    delivery = await store.a_delivery_in_flight()
    await end(store, *ALL)

    assert await store.transitioned(a_transition(delivery, SENT)) == set()
    assert await store.claim(a_claim(delivery, attempt=2), at=NOW) == []


async def test_the_events_since_a_time_are_in_the_outbox_again(store, monkeypatch):
    monkeypatch.setattr(restored, "_EVENTS_OF_A_ROW", 2)
    delivery = await store.a_delivery_in_flight()
    await store.transition(a_transition(delivery, SENT, occurred_at=after(10)))
    older = await store.a_delivery()
    await store.pool.execute("UPDATE events SET occurred_at = $2 WHERE delivery_id = $1", older, after(-7200))
    await store.pool.execute("DELETE FROM event_outbox")

    count = await restored.republish_events(store.pool, since=after(-3600), now=NOW)

    rows = await outbox.claim_overdue(store.pool, retry_after=timedelta(seconds=10), limit=10, now=NOW)
    published = [[(e["delivery_id"], e["type"]) for e in await store.outbox_rows(row)] for row in rows]
    assert count == 3
    assert sorted(len(batch) for batch in published) == [1, 2]
    assert {one for batch in published for one in batch} == {
        (delivery, "accepted"),
        (delivery, "sending"),
        (delivery, "sent"),
    }


async def test_without_events_the_outbox_stays_empty(store):
    assert await restored.republish_events(store.pool, since=after(0), now=NOW) == 0
    assert await store.count("event_outbox") == 0


async def test_the_keys_of_all_that_is_encrypted_are_named(store):
    none = await restored.encryption_key_ids(store.pool)
    project = await projects.create_project(store.pool, organization="a", slug="a", name="a", now=NOW)
    for key in (b"abcd", b"efgh", b"abcd"):
        await providers.create_provider(
            store.pool,
            uuid7(),
            project.id,
            package="provider-smtp",
            channel=Channel.EMAIL,
            name=key.decode(),
            encrypted_credentials=b"\x01" + key + bytes(20),
            now=NOW,
        )

    assert none == []
    assert await restored.encryption_key_ids(store.pool) == [b"abcd".hex(), b"efgh".hex()]
