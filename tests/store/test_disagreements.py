"""The row decides: forged requests, as any user of the bus could write them, change nothing and are named."""

import pytest

from sluice.model.state import EventType
from sluice.store import deliveries, disagreements
from sluice_cli.verification import verify
from tests.examples import NOON, OTHER_PROJECT, a_claim, a_transition, after, seconds
from tests.store.harness import LEASE


def an_expiry(delivery_id, type_=EventType.EXPIRED, **changes):
    return a_transition(delivery_id, type_, attempt=0, in_flight=False, expires=True, **changes)


async def named(store):
    return [(one.delivery_id, one.field, one.records) for one in await disagreements.newest(store.operator)]


async def test_finding_8_a_live_message_is_not_claimed_for_the_sandbox(store):
    delivery_id = await store.a_delivery()

    assert await store.claim(a_claim(delivery_id, sandbox=True)) == []

    assert await store.history(delivery_id) == ["accepted"]
    assert await named(store) == [(delivery_id, "sandbox", 1)]


async def test_finding_8_a_scheduled_message_is_not_claimed_before_its_time(store):
    delivery_id = await store.a_delivery()
    await store.pool.execute("UPDATE deliveries SET enqueued_at = NULL, due_at = $1", after(60))

    assert await store.claim(a_claim(delivery_id), at=after(59)) == []
    assert await named(store) == [(delivery_id, "due_at", 1)]
    assert await store.claim(a_claim(delivery_id), at=after(60)) == [delivery_id]


async def test_finding_8_a_claim_of_another_project_is_refused_and_counted_each_time(store):
    delivery_id = await store.a_delivery()
    forged = a_claim(delivery_id, project_id=OTHER_PROJECT)

    assert await store.claim(forged) == []
    assert await store.claim(forged, a_claim(delivery_id)) == [delivery_id]

    assert await named(store) == [(delivery_id, "project_id", 2)]


@pytest.mark.parametrize("type_", [EventType.EXPIRED, EventType.UNCONFIRMED])
async def test_finding_8_a_delivery_does_not_end_before_the_expiry_in_its_row(store, type_):
    delivery_id = await store.a_delivery()
    expires_at = (await store.pending(delivery_id))["expires_at"]

    assert (await store.transition(an_expiry(delivery_id, type_), at=NOON)).sequences == [None]
    assert await store.state(delivery_id) == "QUEUED"
    assert await named(store) == [(delivery_id, "expires_at", 1)]
    assert (await store.transition(an_expiry(delivery_id, type_), at=expires_at)).sequences == [2]


async def test_finding_8_a_transition_of_another_project_is_refused(store):
    delivery_id = await store.a_delivery()
    forged = a_transition(delivery_id, EventType.FAILED, attempt=0, in_flight=False, project_id=OTHER_PROJECT)

    assert (await store.transition(forged)).sequences == [None]
    assert await store.state(delivery_id) == "QUEUED"
    assert await named(store) == [(delivery_id, "project_id", 1)]


async def test_repeats_and_lost_races_disagree_with_nothing(store):
    delivery_id = await store.a_delivery_in_flight()

    assert await store.claim(a_claim(delivery_id)) == []
    assert await store.claim(a_claim(delivery_id, 3)) == []
    await store.transitioned(a_transition(delivery_id, EventType.SENT))
    assert await store.transitioned(a_transition(delivery_id, EventType.SENT)) == set()

    assert await named(store) == []


async def test_old_disagreements_are_forgotten(store):
    old, new = await store.a_delivery(), await store.a_delivery()
    await deliveries.claim(store.worker, [a_claim(old, sandbox=True)], now=NOON, lease=LEASE)
    await deliveries.claim(store.worker, [a_claim(new, sandbox=True)], now=NOON + seconds(31 * 86_400), lease=LEASE)

    # The second claim also found the delivery expired; what it says of the sandbox counts all the same.
    assert await named(store) == [(new, "sandbox", 1)]


async def test_finding_8_verify_names_them_and_counts_no_violation(store):
    delivery_id = await store.a_delivery()
    await store.claim(a_claim(delivery_id, sandbox=True))

    report = await verify(
        store.operator, now=NOON, at_rest=False, grace=seconds(60), call_logs=[], progress=lambda _line: None
    )

    [named_by_verify] = report.as_json()["bus_disagreements"]
    assert (named_by_verify["id"], named_by_verify["field"]) == (str(delivery_id), "sandbox")
    assert report.violations == 0
