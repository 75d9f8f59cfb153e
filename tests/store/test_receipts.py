"""Receipts into the store: each counts once, for an attempt that was made, in any order."""

from itertools import permutations
from uuid import uuid4

import pytest

from sluice.model.reasons import Reason
from sluice.model.state import STATE_ASSERTED_BY, EventType, fold
from sluice.providers.contract import RECEIPT_TYPES
from sluice.store import receipts
from sluice.store.receipts import ReceiptEntry
from tests.examples import OTHER_PROJECT, PROVIDER, a_claim, a_transition, after, an_id, seconds
from tests.store.harness import FAILED_ATTEMPT, SENT, at_once

DELIVERED, BOUNCED, OPENED, FAILED = EventType.DELIVERED, EventType.BOUNCED, EventType.OPENED, EventType.FAILED


def a_receipt(delivery_id, kind=DELIVERED, **changes):
    defaults = {
        "delivery_id": delivery_id,
        "attempt": 1,
        "provider_id": PROVIDER,
        "receipt_id": f"receipt of {kind}",
        "type": kind,
        "occurred_at": after(5),
    }
    return ReceiptEntry(**defaults | changes)


async def apply(store, *entries):
    async with store.rows_of() as db:
        return await receipts.apply(db, entries, now=after(6), outbox_retry_after=seconds(10))


async def a_sent_delivery(store):
    return await store.a_delivery_that_was(SENT, outcome="accepted", provider_message_id="their-1")


async def test_a_receipt_moves_its_delivery(store):
    delivery_id = await a_sent_delivery(store)

    applied = await apply(store, a_receipt(delivery_id, detail="250 ok"))

    assert applied.known == [True]
    assert await store.state(delivery_id) == "DELIVERED"
    assert await store.history(delivery_id) == ["accepted", "sending", "sent", "delivered"]


async def test_an_opened_receipt_moves_nothing(store):
    delivery_id = await a_sent_delivery(store)

    await apply(store, a_receipt(delivery_id, OPENED))

    assert (await store.state(delivery_id), (await store.history(delivery_id))[-1]) == ("SENT", "opened")


async def test_a_repeated_receipt_changes_nothing(store):
    delivery_id = await a_sent_delivery(store)
    await apply(store, a_receipt(delivery_id))

    applied = await apply(store, a_receipt(delivery_id))

    assert (applied.known, applied.events, applied.outbox_id) == ([True], [], None)
    assert await store.history(delivery_id) == ["accepted", "sending", "sent", "delivered"]


async def test_a_receipt_that_comes_a_hundred_times_at_once_counts_once(store):
    delivery_id = await a_sent_delivery(store)

    await at_once(*[apply(store, *[a_receipt(delivery_id)] * 10) for _ in range(10)])

    assert await store.history(delivery_id) == ["accepted", "sending", "sent", "delivered"]


KINDS = [DELIVERED, BOUNCED, OPENED, EventType.COMPLAINED]


@pytest.mark.parametrize("order", list(permutations(KINDS)), ids=lambda order: " ".join(order))
async def test_receipts_in_any_order_end_in_one_state(store, order):
    delivery_id = await a_sent_delivery(store)

    for kind in order:
        await apply(store, a_receipt(delivery_id, kind))

    assert await store.state(delivery_id) == "COMPLAINED"
    assert sorted(await store.history(delivery_id)) == sorted(["accepted", "sending", "sent", *KINDS])


@pytest.mark.parametrize("order", list(permutations(KINDS)), ids=lambda order: " ".join(order))
async def test_receipts_in_one_batch_end_in_the_same_state(store, order):
    delivery_id = await a_sent_delivery(store)

    await apply(store, *[a_receipt(delivery_id, kind) for kind in order])

    assert await store.state(delivery_id) == "COMPLAINED"
    assert sorted(await store.history(delivery_id)) == sorted(["accepted", "sending", "sent", *KINDS])


@pytest.mark.parametrize("kind", sorted(set(EventType) - {"accepted", "sending"}))
async def test_a_delivery_in_flight_becomes_what_its_history_folds_to(store, kind):
    delivery_id = await store.a_delivery_in_flight()

    await apply(store, a_receipt(delivery_id, kind))

    row = await store.pending(delivery_id)
    assert (row["state"], row["in_flight"]) == (fold([EventType.SENDING, kind]), True)


async def test_a_receipt_before_our_own_settling_is_not_undone_by_it(store):
    delivery_id = await store.a_delivery_in_flight()
    await apply(store, a_receipt(delivery_id))

    await store.transition(a_transition(delivery_id, SENT, outcome="accepted"))

    row = await store.pending(delivery_id)
    assert (row["state"], row["in_flight"], row["due_at"]) == ("DELIVERED", False, None)


@pytest.mark.parametrize(
    "changes",
    [{"delivery_id": uuid4()}, {"attempt": 2}, {"attempt": 0}, {"provider_id": an_id()}],
    ids=["another delivery", "no such attempt", "attempt 0", "another provider"],
)
async def test_a_receipt_about_no_attempt_of_that_provider_is_not_known(store, changes):
    delivery_id = await a_sent_delivery(store)

    applied = await apply(store, a_receipt(**{"delivery_id": delivery_id} | changes))

    assert applied.known == [False]
    assert await store.state(delivery_id) == "SENT"
    assert [await store.count("receipts"), len(await store.history(delivery_id))] == [0, 3]


def by_message_id(provider_message_id, **changes):
    return a_receipt(None, attempt=None, provider_message_id=provider_message_id, **changes)


async def sent_with_ids(store, *receipt_ids):
    return await store.a_delivery_that_was(SENT, outcome="accepted", provider_id=PROVIDER, receipt_ids=receipt_ids)


@pytest.fixture
def one_id():
    return uuid4().hex


@pytest.mark.parametrize("part", [0, 1])
async def test_a_receipt_is_found_by_any_message_id_of_its_attempt(store, part):
    parts = (uuid4().hex, uuid4().hex)
    delivery_id = await sent_with_ids(store, *parts)

    applied = await apply(store, by_message_id(parts[part]))

    assert applied.known == [True]
    assert await store.history(delivery_id) == ["accepted", "sending", "sent", "delivered"]


async def test_a_message_id_of_another_provider_leads_nowhere(store, one_id):
    await sent_with_ids(store, one_id)

    applied = await apply(store, by_message_id(one_id, provider_id=an_id()), by_message_id(uuid4().hex))

    assert applied.known == [False, False]


async def test_a_message_id_that_was_used_again_leads_to_the_newest_attempt(store, one_id):
    old, new = await sent_with_ids(store, one_id), await sent_with_ids(store, one_id)

    await apply(store, by_message_id(one_id))

    assert (await store.state(min(old, new)), await store.state(max(old, new))) == ("SENT", "DELIVERED")


async def test_our_reference_comes_before_a_message_id(store, one_id):
    one, other = await sent_with_ids(store, one_id), await a_sent_delivery(store)

    await apply(store, a_receipt(other, provider_message_id=one_id))

    assert (await store.state(one), await store.state(other)) == ("SENT", "DELIVERED")


async def test_a_step_that_lost_its_race_leaves_no_message_id(store, one_id):
    delivery_id = await sent_with_ids(store, uuid4().hex)

    lost = a_transition(delivery_id, SENT, provider_id=PROVIDER, receipt_ids=(one_id,))

    assert await store.transitioned(lost) == set()
    assert (await apply(store, by_message_id(one_id))).known == [False]


async def test_a_receipt_keeps_its_reason_and_its_payload(store):
    delivery_id = await a_sent_delivery(store)

    applied = await apply(store, a_receipt(delivery_id, BOUNCED, reason=Reason.FULL, payload='{"a": 1}'))

    assert [event["reason"] for event in applied.events] == ["full"]
    assert [event["reason"] for event in await store.outbox_rows(applied.outbox_id)] == ["full"]
    kept = await store.pool.fetchval("SELECT payload FROM receipts WHERE delivery_id = $1", delivery_id)
    assert kept == '{"a": 1}'


async def test_the_known_ones_of_a_batch_are_reported_in_its_order(store):
    delivery_id = await a_sent_delivery(store)

    applied = await apply(
        store,
        a_receipt(uuid4()),
        a_receipt(delivery_id),
        a_receipt(delivery_id, attempt=9),
        a_receipt(delivery_id, OPENED),
    )

    assert applied.known == [False, True, False, True]


async def test_two_deliveries_in_one_batch_keep_their_own_numbers(store):
    one, other = await a_sent_delivery(store), await a_sent_delivery(store)

    await apply(store, a_receipt(one), a_receipt(other, OPENED), a_receipt(other, BOUNCED), a_receipt(one, OPENED))

    assert sorted((await store.history(one))[3:]) == ["delivered", "opened"]
    assert sorted((await store.history(other))[3:]) == ["bounced", "opened"]


async def test_a_receipt_settles_a_delivery_after_an_unknown_attempt(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="unknown", unknown=True, due_at=after(60))

    await apply(store, a_receipt(delivery_id))

    row = await store.pending(delivery_id)
    assert (row["state"], row["due_at"]) == ("DELIVERED", None)
    assert await store.due(after(9999), low_watermarks=after(9999)) == []


async def test_a_receipt_that_it_was_dropped_makes_a_delivery_with_an_unknown_attempt_due_at_once(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="unknown", unknown=True, due_at=after(60))

    await apply(store, a_receipt(delivery_id, FAILED))

    assert (await store.state(delivery_id), await store.due(after(6))) == ("SENDING", [delivery_id])


@pytest.mark.parametrize("kind", [FAILED, BOUNCED, EventType.SOFT_BOUNCE])
async def test_a_negative_receipt_of_an_attempt_that_was_followed_by_another_moves_nothing(store, kind):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="unknown", due_at=after(60))
    await store.claim(a_claim(delivery_id, 2), at=after(60))
    await store.transition(a_transition(delivery_id, SENT, attempt=2, outcome="accepted"))

    await apply(store, a_receipt(delivery_id, kind))

    assert (await store.state(delivery_id), (await store.history(delivery_id))[-1]) == ("SENT", kind)


async def test_a_positive_receipt_of_an_earlier_attempt_counts(store):
    delivery_id = await store.a_delivery_that_was(FAILED_ATTEMPT, outcome="unknown", due_at=after(60))
    await store.claim(a_claim(delivery_id, 2), at=after(60))
    await store.transition(a_transition(delivery_id, FAILED, attempt=2, outcome="rejected"))

    await apply(store, a_receipt(delivery_id))

    assert await store.state(delivery_id) == "DELIVERED"


async def test_the_events_of_receipts_are_in_the_outbox(store):
    delivery_id = await a_sent_delivery(store)

    applied = await apply(store, a_receipt(delivery_id, OPENED), a_receipt(delivery_id))

    covered = await store.outbox_rows(applied.outbox_id)
    published = {(event["delivery_id"], event["sequence"], event["type"]) for event in applied.events}
    assert {(event["delivery_id"], event["sequence"], event["type"]) for event in covered} == published
    assert {kind for _, _, kind in published} == {"opened", "delivered"}


async def test_events_published_at_once_and_from_the_outbox_agree(store):
    delivery_id = await a_sent_delivery(store)

    applied = await apply(store, a_receipt(delivery_id, BOUNCED, detail="550"))

    (published,), (covered,) = applied.events, await store.outbox_rows(applied.outbox_id)
    assert {name: covered[name] for name in published} == published
    assert covered["outcome"] is None  # a receipt is no attempt: health must not count it


async def test_a_state_never_goes_backwards_under_racing_receipts(store):
    delivery_id = await a_sent_delivery(store)
    kinds = [DELIVERED, OPENED, BOUNCED, EventType.READ, EventType.CLICKED, EventType.DEFERRED, FAILED]

    await at_once(*[apply(store, a_receipt(delivery_id, kind)) for kind in kinds * 3])

    history = [EventType(kind) for kind in await store.history(delivery_id)]
    assert await store.state(delivery_id) == fold(history)
    assert len(history) == 3 + len(kinds)


async def test_every_event_type_of_a_receipt_is_one_that_the_fold_knows():
    assert set(STATE_ASSERTED_BY) >= RECEIPT_TYPES


async def test_a_receipt_lies_in_its_own_project(store):
    delivery_id = await store.a_delivery(project_id=OTHER_PROJECT)
    await store.claim(a_claim(delivery_id, project_id=OTHER_PROJECT))

    await apply(store, a_receipt(delivery_id))

    rows = await store.pool.fetch("SELECT project_id FROM receipts UNION ALL SELECT project_id FROM events")
    assert {row["project_id"] for row in rows} == {OTHER_PROJECT}
