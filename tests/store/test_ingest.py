"""Insertion of messages: a batch is one commit, and one idempotency key creates one message."""

import asyncio
import hashlib
from collections import Counter
from datetime import timedelta

import asyncpg
import pytest

from sluice.model.message import DeliveryClass
from sluice.store.db import UNAVAILABLE_ERRORS
from sluice.store.ingest import (
    IDEMPOTENCY_TTL,
    Conflict,
    Created,
    Replayed,
    delete_expired_keys,
    find_owners,
)
from sluice.store.projects import ProjectScope
from tests.examples import NOON, OTHER_PROJECT, PROJECT, a_keyed_message, a_message, after
from tests.store.harness import at_once


async def test_a_message_is_inserted_with_its_deliveries_and_events(store):
    message = a_message(to=("a@example.com", "b@example.com"), tags=("one", "two"), metadata='{"order": 7}')

    assert await store.accept(message) == [Created()]

    row = await store.pool.fetchrow("SELECT * FROM messages")
    assert (row["id"], row["tags"], row["metadata"], row["delivery_class"]) == (
        message.id,
        ["one", "two"],
        '{"order": 7}',
        DeliveryClass.STANDARD,
    )
    assert [await store.state(delivery.id) for delivery in message.deliveries] == ["QUEUED", "QUEUED"]
    assert [await store.history(delivery.id) for delivery in message.deliveries] == [["accepted"], ["accepted"]]


async def test_a_batch_is_inserted_as_a_whole(store):
    batch = [a_message(after(number), tags=("t",) * (number % 3)) for number in range(50)]

    await store.accept(*batch)

    tags = {row["id"]: row["tags"] for row in await store.pool.fetch("SELECT id, tags FROM messages")}
    assert tags == {message.id: list(message.tags) for message in batch}


async def test_a_failed_batch_inserts_nothing(store):
    bad = a_keyed_message(metadata="NUL \x00")

    with pytest.raises(asyncpg.DataError):
        await store.accept(a_message(), a_keyed_message("other"), bad)

    assert [await store.count(table) for table in ("messages", "deliveries", "events", "idempotency_keys")] == [0] * 4


async def test_text_that_cannot_be_stored_is_no_outage(store):
    with pytest.raises(asyncpg.DataError) as caught:
        await store.accept(a_message(metadata="NUL \x00"))

    assert not isinstance(caught.value, UNAVAILABLE_ERRORS)


async def test_a_new_message_is_enqueued_and_has_a_due_time(store):
    delivery_id = await store.a_delivery()

    row = await store.pending(delivery_id)
    assert (row["enqueued_at"], row["due_at"]) == (NOON, after(8))


async def test_a_scheduled_message_is_not_enqueued(store):
    delivery_id = await store.a_delivery(send_at=after(60), due_at=after(60))

    row = await store.pending(delivery_id)
    assert (row["enqueued_at"], row["due_at"]) == (None, after(60))


async def test_a_repeated_request_returns_the_first_message(store):
    first = a_keyed_message()
    await store.accept(first)

    results = await store.accept(a_keyed_message())

    assert results == [Replayed(first.id)]
    assert await store.count("messages") == 1


async def test_another_request_with_the_same_key_is_a_conflict(store):
    first = a_keyed_message()
    await store.accept(first)

    results = await store.accept(a_keyed_message(fingerprint=b"another body"))

    assert results == [Conflict(first.id)]
    assert await store.count("messages") == 1


async def test_a_key_of_another_project_is_another_key(store):
    await store.accept(a_keyed_message())

    assert await store.accept(a_keyed_message(project_id=OTHER_PROJECT)) == [Created()]


async def test_a_key_that_is_twice_in_a_batch_creates_one_message(store):
    first, again, other = a_keyed_message(), a_keyed_message(), a_keyed_message(fingerprint=b"another body")

    results = await store.accept(a_message(), first, again, other)

    assert results == [Created(), Created(), Replayed(first.id), Conflict(first.id)]
    assert await store.count("messages") == 2


async def test_results_are_in_the_order_of_the_batch(store):
    old = a_keyed_message("m")
    await store.accept(old)

    results = await store.accept(a_keyed_message("z"), a_keyed_message("m"), a_message(), a_keyed_message("a"))

    assert results == [Created(), Replayed(old.id), Created(), Created()]


async def test_fifty_concurrent_requests_create_one_message(store):
    requests = [a_keyed_message() for _ in range(50)]

    results = await at_once(*[store.accept(request) for request in requests])

    (winner,) = [request.id for request, [result] in zip(requests, results, strict=True) if result == Created()]
    assert [result for [result] in results].count(Replayed(winner)) == 49
    assert await store.count("messages") == 1


def outcomes(requests, results):
    """The requests that created a message, and the number of each result, over all batches."""
    pairs = list(zip([r for batch in requests for r in batch], [v for batch in results for v in batch], strict=True))
    return [request for request, result in pairs if result == Created()], Counter(result for _, result in pairs)


async def test_concurrent_batches_with_a_repeated_key_create_one_message(store):
    batches = [[a_message(), a_keyed_message(), a_keyed_message()] for _ in range(10)]

    results = await at_once(*[store.accept(*batch) for batch in batches])

    winners, counted = outcomes(batches, results)
    (winner,) = [request.id for request in winners if request.idempotency_key]
    assert counted == {Created(): 11, Replayed(winner): 19}
    assert await store.count("messages") == 11


async def test_concurrent_requests_with_one_key_and_other_bodies_create_one_message(store):
    batches = [[a_keyed_message(fingerprint=b"body %d" % (number % 2))] for number in range(20)]

    results = await at_once(*[store.accept(*batch) for batch in batches])

    [winner], counted = outcomes(batches, results)
    assert counted == {Created(): 1, Replayed(winner.id): 9, Conflict(winner.id): 10}
    assert await store.count("messages") == 1


async def test_an_expired_key_used_by_concurrent_requests_creates_one_more_message(store):
    await store.accept(a_keyed_message())
    batches = [[a_keyed_message(when=NOON + IDEMPOTENCY_TTL, fingerprint=b"another body")] for _ in range(20)]

    results = await at_once(*[store.accept(*batch) for batch in batches])

    [winner], counted = outcomes(batches, results)
    assert counted == {Created(): 1, Replayed(winner.id): 19}
    assert await store.count("messages") == 2


async def test_a_key_that_is_deleted_meanwhile_is_free(store):
    await store.accept(a_keyed_message())
    async with store.router.acquire() as connection, connection.transaction():
        await delete_expired_keys(connection, now=NOON + IDEMPOTENCY_TTL, limit=10)
        waiting = asyncio.create_task(store.accept(a_keyed_message()))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done

    assert await waiting == [Created()]


async def concurrently_behind(store, held, *tasks):
    """Start the tasks one after the other while the statement ``held`` is uncommitted, then roll it back."""
    async with store.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(held)
        started = []
        for task in tasks:
            started.append(asyncio.ensure_future(task))
            await asyncio.wait(started, timeout=0.2)
        await transaction.rollback()
        return await asyncio.gather(*started)


async def test_batches_with_the_same_keys_in_different_orders_do_not_deadlock(store):
    lock_m = f"INSERT INTO idempotency_keys VALUES ('{PROJECT}', false, 'm', '', '{PROJECT}', now())"

    await concurrently_behind(
        store,
        lock_m,
        store.accept(*[a_keyed_message(key) for key in "zmx"]),
        store.accept(*[a_keyed_message(key) for key in "xz"]),
    )

    assert await store.count("messages") == 3


async def test_a_duplicate_waits_for_the_first_request_and_returns_its_message(store):
    first, duplicate = a_keyed_message(), a_keyed_message()
    async with store.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO idempotency_keys VALUES ($1, false, $2, $3, $4, $5)",
            first.project_id,
            first.idempotency_key,
            first.fingerprint,
            first.id,
            NOON + IDEMPOTENCY_TTL,
        )
        waiting = asyncio.create_task(store.accept(duplicate))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done

    assert await waiting == [Replayed(first.id)]


async def test_a_duplicate_is_created_when_the_first_request_fails(store):
    async with store.pool.acquire() as connection:
        first = connection.transaction()
        await first.start()
        await connection.execute(
            "INSERT INTO idempotency_keys VALUES ($1, false, 'order-7', 'x', $1, now())", a_message().project_id
        )
        waiting = asyncio.create_task(store.accept(a_keyed_message()))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        await first.rollback()

    assert await waiting == [Created()]


async def test_a_key_is_valid_for_a_day(store):
    first = a_keyed_message()
    await store.accept(first)

    results = await store.accept(a_keyed_message(when=NOON + timedelta(hours=23, minutes=59)))

    assert results == [Replayed(first.id)]


async def test_an_expired_key_can_be_used_again(store):
    await store.accept(a_keyed_message())
    second = a_keyed_message(when=NOON + IDEMPOTENCY_TTL, fingerprint=b"another body")

    assert await store.accept(second) == [Created()]

    third = a_keyed_message(when=NOON + IDEMPOTENCY_TTL + timedelta(hours=1), fingerprint=b"another body")
    assert await store.accept(third) == [Replayed(second.id)]


async def test_only_expired_keys_are_deleted(store):
    await store.accept(a_keyed_message())
    kept = a_keyed_message(key="another", when=after(60))
    await store.accept(kept)

    forgotten = await delete_expired_keys(store.router, now=NOON + IDEMPOTENCY_TTL, limit=10)

    assert forgotten == 1
    async with store.rows_of() as db:
        found = await find_owners(db, ProjectScope(PROJECT, False), ["another", "order-7"], now=after(60))
    assert found == {"another": (kept.id, kept.fingerprint)}


async def test_a_conflict_does_not_extend_a_key(store):
    await store.accept(a_keyed_message())
    await store.accept(a_keyed_message(when=NOON + timedelta(hours=20), fingerprint=b"another body"))

    assert await store.accept(a_keyed_message(when=NOON + IDEMPOTENCY_TTL)) == [Created()]


def with_file(content, **changes):
    return a_message(attachments=((hashlib.sha256(content).hexdigest(), content),), **changes)


async def test_an_attachment_is_stored_once(store):
    await store.accept(with_file(b"hello"), with_file(b"hello"))
    await store.accept(with_file(b"hello"), with_file(b"other"))

    assert await store.count("attachments") == 2


async def test_a_project_has_its_own_attachments(store):
    await store.accept(with_file(b"hello"), with_file(b"hello", project_id=OTHER_PROJECT))

    assert await store.count("attachments") == 2


async def test_a_replayed_request_stores_no_attachment(store):
    await store.accept(a_keyed_message())

    await store.accept(a_keyed_message(attachments=(("digest", b"hello"),)))

    assert await store.count("attachments") == 0


async def test_a_batch_with_a_failed_attachment_inserts_nothing(store):
    with pytest.raises(asyncpg.DataError):
        await store.accept(a_keyed_message(), a_message(attachments=(("NUL \x00", b""),)))

    assert [await store.count(table) for table in ("messages", "deliveries", "events", "idempotency_keys")] == [0] * 4


async def test_attachments_in_different_orders_do_not_deadlock(store):
    lock_m = f"INSERT INTO attachments VALUES ('{PROJECT}', 'm', '', now())"

    await concurrently_behind(
        store,
        lock_m,
        store.accept(a_message(attachments=tuple((digest, b"") for digest in "zmx"))),
        store.accept(a_message(attachments=tuple((digest, b"") for digest in "xz"))),
    )

    assert await store.count("attachments") == 3
