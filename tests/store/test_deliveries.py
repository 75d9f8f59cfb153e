"""Claims, transitions, leases and recovery of deliveries: each is a compare-and-set, and each may be repeated."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from sluice.model.message import Channel
from sluice.model.state import SETTLED, STATE_ASSERTED_BY, EventType, fold
from sluice.store import deliveries, outbox, recovery
from sluice.store.deliveries import Claimed
from tests.examples import (
    NOON,
    OTHER_PROJECT,
    PROVIDER,
    a_claim,
    a_message,
    a_transition,
    after,
    an_id,
    seconds,
)
from tests.polling import wait_until
from tests.store.harness import FAILED_ATTEMPT, LEASE, SENT, at_once

# -- claims ------------------------------------------------------------------------------------------------------


async def test_a_claim_returns_the_content_and_recipient(store):
    message = a_message()
    await store.accept(message)

    claimed_rows = await deliveries.claim(store.worker, [a_claim(message.deliveries[0].id)], now=NOON, lease=LEASE)

    reference = a_claim(message.deliveries[0].id).reference
    assert claimed_rows == [Claimed(message.id, "ada@example.com", message.content, NOON, reference)]


async def test_only_the_next_attempt_of_a_delivery_is_claimed(store):
    delivery_id = await store.a_delivery()
    claims = [a_claim(delivery_id, 2), a_claim(delivery_id, 1), a_claim(delivery_id, 3)]

    claimed_rows = await deliveries.claim(store.worker, claims, now=NOON, lease=LEASE)

    assert [claimed is not None for claimed in claimed_rows] == [False, True, False]
    attempts = await store.pool.fetch("SELECT number FROM attempts")
    assert [row["number"] for row in attempts] == [1]


async def test_a_claimed_delivery_is_in_flight_until_its_lease_expires(store):
    delivery_id = await store.a_delivery_in_flight()

    row = await store.pending(delivery_id)
    assert (row["state"], row["in_flight"], row["attempt_count"]) == ("SENDING", True, 1)
    assert (row["due_at"], row["provider_id"]) == (NOON + LEASE, PROVIDER)


async def test_an_attempt_is_written_before_its_call(store):
    delivery_id = await store.a_delivery()
    claim = a_claim(delivery_id, routing_decision='{"provider": 1}')

    await store.claim(claim)

    (attempt,) = await store.attempts(delivery_id)
    assert (attempt["client_reference"], attempt["routing_decision"], attempt["started_at"], attempt["outcome"]) == (
        claim.reference,
        claim.routing_decision,
        NOON,
        None,
    )
    assert await store.history(delivery_id) == ["accepted", "sending"]


async def test_a_delivery_is_claimed_once(store):
    delivery_id = await store.a_delivery()

    results = await at_once(*[store.claim(a_claim(delivery_id)) for _ in range(20)])

    assert sorted(results) == [[]] * 19 + [[delivery_id]]
    assert len(await store.attempts(delivery_id)) == 1


async def test_overlapping_batches_claim_each_delivery_once(store):
    messages = [a_message() for _ in range(30)]
    await store.accept(*messages)
    ids = [message.deliveries[0].id for message in messages]

    results = await at_once(*[store.claim(*[a_claim(one) for one in order]) for order in (ids, ids[::-1]) * 4])

    claimed = [one for result in results for one in result]
    assert len(claimed) == len(set(claimed))
    assert await store.count("attempts") == len(claimed)


async def test_a_batch_claims_what_is_available(store):
    free, in_flight = await store.a_delivery(), await store.a_delivery_in_flight()

    assert await store.claim(a_claim(in_flight, 2), a_claim(free), a_claim(uuid4())) == [free]


@pytest.mark.parametrize("number", [0, 2, 3])
async def test_a_claim_of_another_attempt_is_refused(store, number):
    delivery_id = await store.a_delivery()

    assert await store.claim(a_claim(delivery_id, number)) == []


async def test_a_claim_of_another_project_is_refused(store):
    delivery_id = await store.a_delivery()

    assert await store.claim(a_claim(delivery_id, project_id=OTHER_PROJECT)) == []


@pytest.mark.parametrize("time", [3600, 3600.001, 9999])
async def test_an_expired_delivery_is_not_claimed(store, time):
    delivery_id = await store.a_delivery(expires_at=after(3600))

    assert await store.claim(a_claim(delivery_id), at=after(time)) == []


async def test_a_cancelled_delivery_is_not_claimed(store):
    message = a_message()
    await store.accept(message)
    await store.cancel(message.id)

    assert await store.claim(a_claim(message.deliveries[0].id)) == []


@pytest.mark.parametrize(
    "event_type", [event_type for event_type in EventType if STATE_ASSERTED_BY[event_type] in SETTLED]
)
async def test_a_settled_delivery_is_not_claimed(store, event_type):
    delivery_id = await store.a_delivery_that_was(event_type)

    assert await store.claim(a_claim(delivery_id, 2)) == []


async def test_a_locked_delivery_is_skipped(store):
    delivery_id = await store.a_delivery()
    async with store.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM deliveries WHERE id = $1 FOR UPDATE", delivery_id)

        assert await store.claim(a_claim(delivery_id)) == []

    assert await store.claim(a_claim(delivery_id)) == [delivery_id]


async def test_a_claim_finds_its_own_attempts_once_the_statement_whose_answer_was_lost_has_ended(store):
    own, others, unclaimed = [await store.a_delivery() for _ in range(3)]
    await store.claim(a_claim(others))
    claims = [a_claim(one) for one in (unclaimed, others, own)]
    claim_id = uuid4()
    async with store.worker.acquire() as connection, connection.transaction():
        (written,) = await deliveries.claim(connection, [a_claim(own)], lease=LEASE, claim_id=claim_id, now=NOON)
        assert await deliveries.claim(store.worker, [a_claim(own)], lease=LEASE, claim_id=claim_id, now=NOON) == [None]
        found = asyncio.create_task(deliveries.find_claimed(store.worker, claims, claim_id=claim_id))
        await wait_until(lambda: is_blocked(store))

    assert await found == [None, None, written]

    assert await store.transitioned(a_transition(own, FAILED_ATTEMPT, outcome="unknown")) == {own}
    assert await deliveries.find_claimed(store.worker, claims, claim_id=claim_id) == [None] * 3


async def is_blocked(store):
    """Whether a statement waits for a lock in the database of the test."""
    return await store.pool.fetchval(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE a.datname = current_database() AND NOT l.granted"
    )


async def test_only_the_transition_that_was_written_is_found(store):
    delivery_id = await store.a_delivery_in_flight()
    written = a_transition(delivery_id, SENT, outcome="accepted", provider_id=PROVIDER, detail="queued")
    await store.transition(written)
    others = [
        written._replace(**change)
        for change in (
            {"occurred_at": after(2) + timedelta(microseconds=1)},
            {"type": EventType.FAILED},
            {"detail": ""},
            {"provider_id": None},
            {"attempt": 2},
            {"project_id": OTHER_PROJECT},
        )
    ]

    found = await deliveries.find_written(store.worker, [*others, written])

    assert found == [None] * len(others) + [3]


async def test_a_second_attempt_follows_a_failed_one(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="provider_fault")
    other = an_id()

    assert await store.claim(a_claim(delivery_id, 2, provider_id=other)) == [delivery_id]

    assert [attempt["provider_id"] for attempt in await store.attempts(delivery_id)] == [PROVIDER, other]


async def test_a_claim_with_text_that_cannot_be_stored_is_a_data_error(store):
    delivery_id = await store.a_delivery()

    with pytest.raises(asyncpg.DataError):
        await store.claim(a_claim(delivery_id, routing_decision="NUL \x00"))


# -- transitions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_type", EventType)
async def test_the_state_after_each_type_of_transition_is_the_fold_of_its_events(store, event_type):
    delivery_id = await store.a_delivery_that_was(event_type, due_at=after(60), outcome="unknown")

    row = await store.pending(delivery_id)
    assert row["state"] == fold([EventType.ACCEPTED, EventType.SENDING, event_type])
    assert (row["due_at"] is None) == (row["state"] in SETTLED)
    assert not row["in_flight"]


@pytest.mark.parametrize("event_type", EventType)
async def test_each_type_of_transition_adds_one_event(store, event_type):
    delivery_id = await store.a_delivery_that_was(event_type)

    assert await store.history(delivery_id) == ["accepted", "sending", event_type]


async def test_a_transition_finishes_its_attempt(store):
    delivery_id = await store.a_delivery_that_was(
        SENT, outcome="accepted", provider_message_id="their-1", detail="fine"
    )

    (attempt,) = await store.attempts(delivery_id)
    assert (attempt["outcome"], attempt["provider_message_id"], attempt["error"], attempt["finished_at"]) == (
        "accepted",
        "their-1",
        "fine",
        after(2),
    )


async def test_a_transition_without_an_outcome_does_not_change_the_attempt(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="throttled")

    await store.transition(
        a_transition(delivery_id, EventType.POSTPONED, in_flight=False, due_at=after(9), next_round=True)
    )

    (attempt,) = await store.attempts(delivery_id)
    assert (attempt["outcome"], (await store.pending(delivery_id))["retry_round"]) == ("throttled", 2)


@pytest.mark.parametrize(
    "changes",
    [{"attempt": 0}, {"attempt": 2}, {"in_flight": False}, {"delivery_id": uuid4()}],
    ids=["an earlier attempt", "a later one", "not in flight", "another delivery"],
)
async def test_a_transition_that_does_not_apply_changes_nothing(store, changes):
    delivery_id = await store.a_delivery_in_flight()
    before = await store.pending(delivery_id)

    applied = await store.transition(a_transition(**{"delivery_id": delivery_id, "type": SENT} | changes))

    assert (applied.sequences, applied.outbox_id) == ([None], None)
    assert await store.pending(delivery_id) == before
    assert [await store.count(table) for table in ("events", "event_outbox")] == [2, 0]


async def test_of_concurrent_transitions_one_is_applied(store):
    delivery_id = await store.a_delivery_in_flight()

    results = await at_once(
        *[store.transitioned(a_transition(delivery_id, event_type)) for event_type in (SENT, FAILED_ATTEMPT) * 5]
    )

    assert results.count({delivery_id}) == 1
    assert len(await store.history(delivery_id)) == 3


async def test_no_transition_applies_after_a_settled_state(store):
    delivery_id = await store.a_delivery_that_was(SENT)

    assert await store.transitioned(a_transition(delivery_id, EventType.EXPIRED, in_flight=False)) == set()


async def test_an_earlier_receipt_keeps_the_higher_state(store):
    delivery_id = await store.a_delivery_in_flight()
    await store.pool.execute("UPDATE deliveries SET state = 'DELIVERED' WHERE id = $1", delivery_id)

    assert await store.transitioned(a_transition(delivery_id, SENT, outcome="accepted")) == {delivery_id}

    row = await store.pending(delivery_id)
    assert (row["state"], row["in_flight"], row["due_at"]) == ("DELIVERED", False, None)


async def test_a_failed_attempt_does_not_retry_a_delivery_that_a_receipt_has_settled(store):
    delivery_id = await store.a_delivery_in_flight()
    await store.pool.execute("UPDATE deliveries SET state = 'DELIVERED' WHERE id = $1", delivery_id)

    await store.transition(a_transition(delivery_id, FAILED_ATTEMPT, outcome="unknown", due_at=after(60)))

    assert (await store.pending(delivery_id))["due_at"] is None
    assert await store.claim(a_claim(delivery_id, 2)) == []


async def test_unknown_attempts_are_counted(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="unknown", unknown=True)

    assert (await store.pending(delivery_id))["unknown_attempts"] == 1


async def test_a_batch_of_transitions_has_one_outbox_row(store):
    ids = [await store.a_delivery_in_flight() for _ in range(3)]

    applied = await store.transition(a_transition(uuid4(), SENT), *[a_transition(one, SENT) for one in ids])

    assert applied.sequences == [None, 3, 3, 3]
    assert await store.count("event_outbox") == 1


async def test_acknowledged_outbox_rows_are_deleted_with_the_next_batch(store):
    first = await store.transition(a_transition(await store.a_delivery_in_flight(), SENT))

    second = await store.transition(
        a_transition(await store.a_delivery_in_flight(), SENT), acknowledged=[first.outbox_id]
    )

    left = await store.pool.fetch("SELECT id FROM event_outbox")
    assert [row["id"] for row in left] == [second.outbox_id]


async def test_acknowledged_outbox_rows_are_deleted_although_no_transition_applies(store):
    first = await store.transition(a_transition(await store.a_delivery_in_flight(), SENT))

    await store.transition(a_transition(uuid4(), SENT), acknowledged=[first.outbox_id])

    assert await store.count("event_outbox") == 0


async def test_an_outbox_row_is_overdue_after_its_retry_time(store):
    applied = await store.transition(a_transition(await store.a_delivery_in_flight(), SENT), at=NOON)

    found = [
        await outbox.claim_overdue(store.router, now=after(time), retry_after=seconds(10), limit=10)
        for time in (9.9, 10, 11, 20)
    ]

    assert found == [[], [applied.outbox_id], [], [applied.outbox_id]]


async def test_an_overdue_outbox_row_is_claimed_once(store):
    await store.transition(a_transition(await store.a_delivery_in_flight(), SENT))

    found = await at_once(
        *[outbox.claim_overdue(store.router, now=after(60), retry_after=seconds(10), limit=10) for _ in range(8)]
    )

    assert sorted(len(one) for one in found) == [0] * 7 + [1]


# -- leases ------------------------------------------------------------------------------------------------------


async def test_a_renewed_lease_expires_later(store):
    delivery_id = await store.a_delivery_in_flight()

    await deliveries.renew(store.worker, [(delivery_id, 1)], lease=seconds(100), now=NOON)

    assert await recovery.list_expired_leases(store.router, now=after(99), limit=10) == []


async def test_only_the_attempt_in_flight_is_renewed(store):
    in_flight, settled = await store.a_delivery_in_flight(), await store.a_delivery_that_was(SENT)

    await deliveries.renew(store.worker, [(in_flight, 2), (settled, 1)], lease=seconds(100), now=NOON)

    dues = [(await store.pending(one))["due_at"] for one in (in_flight, settled)]
    assert dues == [NOON + LEASE, None]


async def test_an_expired_lease_without_an_outcome_is_listed(store):
    delivery_id = await store.a_delivery_in_flight()

    (pending,) = await recovery.list_expired_leases(store.router, now=NOON + LEASE, limit=10)

    assert (pending.id, pending.attempt_count, pending.provider_id) == (delivery_id, 1, PROVIDER)
    assert pending.last_outcome is None


async def test_an_unexpired_lease_is_not_listed(store):
    await store.a_delivery_in_flight()

    assert await recovery.list_expired_leases(store.router, now=NOON + LEASE - seconds(0.1), limit=10) == []


# -- recovery ----------------------------------------------------------------------------------------------------


async def test_a_delivery_whose_record_is_lost_is_requeued(store):
    delivery_id = await store.a_delivery()

    found = [await store.due(after(time), low_watermarks=after(time)) for time in (7.9, 8, 8.1, 16.1)]

    assert found == [[], [delivery_id], [], [delivery_id]]


async def test_a_delivery_that_is_still_in_kafka_is_not_requeued(store):
    await store.a_delivery()

    assert await store.due(after(3600), low_watermarks=NOON) == []


async def test_a_requeued_delivery_is_in_the_dispatch_queue_again(store):
    delivery_id = await store.a_delivery()
    await store.due(after(10), low_watermarks=after(10))

    found = [await store.due(after(60), low_watermarks=after(mark)) for mark in (10, 10.1)]

    assert found == [[], [delivery_id]]


async def test_a_low_watermark_does_not_affect_the_backlog(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, due_at=after(60), outcome="unknown")

    assert await store.due(after(60), low_watermarks=NOON) == [delivery_id]


async def test_the_low_watermark_of_one_channel_does_not_affect_another(store):
    mail, text = a_message(), a_message(channel=Channel.SMS)
    await store.accept(mail, text)

    found = await store.due(after(60), low_watermarks={Channel.EMAIL: after(60), Channel.SMS: NOON})

    assert found == [mail.deliveries[0].id]


async def test_without_low_watermarks_only_the_backlog_is_enqueued(store):
    await store.a_delivery()
    waiting = await store.a_delivery_that_was(FAILED_ATTEMPT, due_at=after(60), outcome="unknown")

    assert await store.due(after(3600), low_watermarks=None) == [waiting]


async def test_a_scheduled_message_is_due_at_its_time(store):
    delivery_id = await store.a_delivery(send_at=after(60), due_at=after(60))

    found = [await store.due(after(time), low_watermarks=NOON) for time in (59.9, 60)]

    assert found == [[], [delivery_id]]


async def test_a_delivery_in_flight_is_not_enqueued(store):
    await store.a_delivery_in_flight()

    assert await store.due(after(3600), low_watermarks=after(3600)) == []


@pytest.mark.parametrize(
    "event_type", [event_type for event_type in EventType if STATE_ASSERTED_BY[event_type] in SETTLED]
)
async def test_a_settled_delivery_is_never_enqueued(store, event_type):
    await store.a_delivery_that_was(event_type, due_at=after(60))

    assert await store.due(after(9999), low_watermarks=after(9999)) == []


@pytest.mark.parametrize("changes", [{}, {"send_at": after(8)}], ids=["lost record", "scheduled"])
async def test_concurrent_calls_enqueue_each_due_delivery_once(store, changes):
    messages = [a_message(**changes) for _ in range(100)]
    await store.accept(*messages)

    found = await at_once(*[store.due(after(10), low_watermarks=after(10), limit=30) for _ in range(8)])

    enqueued = [one for result in found for one in result]
    assert len(enqueued) == len(set(enqueued)) == 100


async def test_no_more_deliveries_are_requeued_than_the_limit(store):
    await store.accept(*[a_message() for _ in range(30)])

    assert len(await store.due(after(10), low_watermarks=after(10), limit=10)) == 10


async def test_a_pending_delivery_has_the_attempted_providers_of_its_round(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="provider_fault")
    other = an_id()
    await store.claim(a_claim(delivery_id, 2, provider_id=other))
    await store.transition(
        a_transition(delivery_id, FAILED_ATTEMPT, attempt=2, outcome="unknown", unknown=True, due_at=after(60))
    )

    (pending,) = await store.dequeued(after(60))

    assert (pending.attempt_count, pending.retry_round, pending.unknown_attempts) == (2, 1, 1)
    assert (pending.attempted_providers, pending.provider_id) == ((PROVIDER, other), other)
    assert (pending.last_outcome, pending.last_reference) == ("unknown", a_claim(delivery_id, 2).reference)


async def test_a_new_round_starts_without_attempted_providers(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="provider_fault")
    await store.transition(
        a_transition(delivery_id, EventType.POSTPONED, in_flight=False, due_at=after(60), next_round=True)
    )

    (pending,) = await store.dequeued(after(60))

    assert (pending.attempted_providers, pending.retry_round) == ((), 2)


async def test_an_expired_delivery_is_requeued(store):
    delivery_id = await store.a_delivery(expires_at=after(60))

    assert await store.due(after(60), low_watermarks=after(60)) == [delivery_id]


# -- cost --------------------------------------------------------------------------------------------------------


async def test_a_batch_of_old_and_new_deliveries_reads_no_rows_between_them(store):
    """The statistics are outdated: the ids of the batch span many rows that the planner does not expect."""
    oldest = await store.a_delivery()
    await store.pool.execute("ANALYZE deliveries, messages, attempts")
    await store.accept(*[a_message() for _ in range(3000)])
    newest = [await store.a_delivery() for _ in range(3)]

    async with store.worker.acquire() as connection, connection.transaction():
        before = await rows_read(connection)
        claimed_rows = await deliveries.claim(
            connection, [a_claim(id_) for id_ in (oldest, *newest)], now=NOON, lease=LEASE
        )
        transitions = [a_transition(id_, EventType.SENT) for id_ in (oldest, *newest)]
        applied = await deliveries.transition(connection, transitions, now=NOON, outbox_retry_after=seconds(10))
        read = await rows_read(connection) - before

    assert all(claimed_rows)
    assert applied.sequences == [3] * 4
    assert read < 200


async def rows_read(connection):
    """The number of rows that scans of the large tables and their indexes have returned in this transaction."""
    return await connection.fetchval(
        "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        " WHERE relname ~ '^(deliveries|messages|attempts|events)'"
    )


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "by_segment", "cost"), [(7_500, True, 22_500), (7_500, False, 7_500), (0, True, 0), (None, True, None)]
)
async def test_an_attempt_costs_the_price_of_its_provider_by_the_segments_of_the_row(store, price, by_segment, cost):
    delivery_id = await store.a_delivery(segments=3)

    await store.claim(a_claim(delivery_id, price=price, by_segment=by_segment))

    (attempt,) = await store.attempts(delivery_id)
    assert attempt["cost"] == cost
