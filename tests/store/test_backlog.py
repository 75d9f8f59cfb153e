"""The backlog: queues per project, fair shares, and the independence of one project's queue from another's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.recovery import task_for
from sluice.model.message import Channel, DeliveryClass
from sluice.store import backlog
from sluice.store.backlog import ProjectQueue, QueueSlice, fair_shares
from sluice.store.splitting import Division, divide
from tests.examples import OTHER_PROJECT, PROJECT, a_message, after, an_id, seconds
from tests.store.harness import at_once


def a_backlogged_message(**changes):
    """A message that is due and not enqueued."""
    return a_message(**{"send_at": after(0), "due_at": after(0)} | changes)


NOW = after(60)


async def queues(store, *, after=None, limit=100):
    return await backlog.list_project_queues(store.router, Channel.EMAIL, now=NOW, after=after, limit=limit)


async def dequeue(store, shares):
    return [
        one.id for one in await backlog.dequeue(store.router, Channel.EMAIL, shares, now=NOW, requeue_after=seconds(8))
    ]


STANDARD, OTHERS = ProjectQueue(True, PROJECT), ProjectQueue(True, OTHER_PROJECT)
URGENT = ProjectQueue(False, PROJECT)


async def test_each_project_has_a_queue_and_one_for_urgent_deliveries(store):
    await store.accept(
        *[a_backlogged_message() for _ in range(3)],
        a_backlogged_message(delivery_class=DeliveryClass.URGENT),
        a_backlogged_message(project_id=OTHER_PROJECT, delivery_class=DeliveryClass.ONCE),
        a_backlogged_message(channel=Channel.SMS),
    )

    found = await queues(store)

    assert found[0] == URGENT
    assert set(found[1:]) == {STANDARD, OTHERS}


async def test_queues_are_listed_page_by_page(store):
    projects = [an_id() for _ in range(7)]
    await store.accept(*[a_backlogged_message(project_id=project) for project in projects for _ in range(2)])

    pages = [await queues(store, limit=3)]
    while len(pages[-1]) == 3:
        pages.append(await queues(store, after=pages[-1][-1], limit=3))

    assert [len(page) for page in pages] == [3, 3, 1]
    assert {queue.project_id for page in pages for queue in page} == set(projects)


@pytest.mark.parametrize(
    "changes", [{"send_at": None}, {"due_at": after(61), "send_at": after(61)}], ids=["enqueued", "not due"]
)
async def test_a_delivery_that_is_enqueued_or_not_due_is_not_in_the_backlog(store, changes):
    await store.accept(a_backlogged_message(**changes))

    assert await queues(store) == []


async def test_a_delivery_in_flight_is_not_in_the_backlog(store):
    await store.a_delivery_in_flight()

    assert await queues(store) == []


async def test_each_queue_is_dequeued_by_its_share_the_longest_due_first(store):
    own = [a_backlogged_message(due_at=after(moment)) for moment in (3, 1, 2)]
    other = a_backlogged_message(project_id=OTHER_PROJECT)
    await store.accept(*own, other)

    dequeued = await dequeue(store, {STANDARD: 2, OTHERS: 2})

    expected = [own[1], own[2], other]
    assert set(dequeued) == {message.deliveries[0].id for message in expected}


async def test_a_dequeued_delivery_is_in_the_dispatch_queue(store):
    await store.accept(a_backlogged_message(), a_backlogged_message(channel=Channel.SMS), a_message())

    await dequeue(store, {STANDARD: 5})

    assert await queues(store) == []
    assert await backlog.count_enqueued(store.gateway) == {QueueSlice(PROJECT, Channel.EMAIL, urgent=False): 2}


async def test_concurrent_calls_dequeue_each_delivery_once(store):
    await store.accept(*[a_backlogged_message() for _ in range(100)])

    found = await at_once(*[dequeue(store, {STANDARD: 30}) for _ in range(8)])

    dequeued = [one for result in found for one in result]
    assert len(dequeued) == len(set(dequeued)) == 100


async def test_listing_the_queues_does_not_read_their_deliveries(store):
    await store.accept(*[a_backlogged_message() for _ in range(2000)], a_backlogged_message(project_id=OTHER_PROJECT))
    await store.pool.execute("ANALYZE deliveries")

    async with store.router.acquire() as connection, connection.transaction():
        found = await backlog.list_project_queues(connection, Channel.EMAIL, now=NOW, after=None, limit=100)
        read = await connection.fetchval(
            "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname LIKE 'deliveries%'"
        )

    assert set(found) == {STANDARD, OTHERS}
    assert read < 500


def test_urgent_queues_are_served_first():
    assert fair_shares([URGENT, STANDARD, OTHERS], 100) == {URGENT: 100}


@given(st.sets(st.builds(ProjectQueue, st.just(True), st.uuids()), max_size=30), st.integers(1, 10_000))
def test_standard_queues_share_equally_and_each_has_at_least_one(found, free):
    shares = fair_shares(list(found), free)

    assert set(shares) == found
    assert len(set(shares.values())) <= 1
    assert all(share >= 1 for share in shares.values())
    assert sum(shares.values()) <= max(free, len(found))


CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_traced_delivery_keeps_its_context_for_the_attempts_that_begin_in_the_database(store):
    traced, untraced = a_backlogged_message(traceparent=CONTEXT), a_backlogged_message()
    await store.accept(traced, untraced)

    found = await backlog.dequeue(store.router, Channel.EMAIL, {STANDARD: 2}, now=NOW, requeue_after=seconds(8))

    assert {one.message_id: one.traceparent for one in found} == {traced.id: CONTEXT, untraced.id: None}


async def test_the_parts_of_a_divided_delivery_have_the_context_of_the_whole(store):
    message = a_backlogged_message(traceparent=CONTEXT)
    await store.accept(message)
    [delivery], other = message.deliveries, an_id()
    division = Division(delivery.id, 0, ("a@example.com",), ((other, ("b@example.com",)),))

    async with store.router.acquire() as connection:
        await divide(connection, [division], in_flight=False)

    assert (await store.pending(other))["traceparent"] == CONTEXT


async def test_the_segments_of_a_delivery_are_read_with_it(store):
    long, short = a_backlogged_message(segments=4), a_backlogged_message()
    await store.accept(long, short)

    found = await backlog.dequeue(store.router, Channel.EMAIL, {STANDARD: 2}, now=NOW, requeue_after=seconds(8))

    assert {one.message_id: one.segments for one in found} == {long.id: 4, short.id: 1}
    assert {task_for(one, now=NOW).segments for one in found} == {4, 1}
