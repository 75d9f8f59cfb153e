"""The rollups of analytics: equal to a recount, whatever is counted again, late, or at the same time."""

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.model import ids
from sluice.model.analytics import Count, Duration, Histogram
from sluice.model.state import STATE_ASSERTED_BY, EventType
from sluice.store import analytics, partitions
from sluice.store.analytics import Filter, Grouping, Interval, Range
from sluice.store.projects import ProjectScope
from tests.analytics_recount import DIFFERENCES
from tests.examples import NOON, OTHER_PROJECT, PROJECT, after, milliseconds
from tests.store.harness import at_once

ADA, BOB = UUID(int=0xA), UUID(int=0xB)  # providers
ALL = Filter()
DAY = Range(Interval.DAY, NOON - timedelta(hours=12), NOON + timedelta(hours=12))
HOURS = Range(Interval.HOUR, NOON, NOON + timedelta(hours=3))


async def a_delivery(
    store, *history, tags=(), channel="email", project=PROJECT, sandbox=False, at=NOON, send_at=None, costs=None
):
    """A delivery with these events: (type, provider, seconds after noon), or a type alone.

    ``costs``: by provider, of an attempt at each, to which its events belong.
    """
    delivery_id = ids.uuid7(milliseconds(at))
    await store.pool.execute(
        "INSERT INTO messages (id, project_id, channel, delivery_class, content, tags, sandbox, send_at, expires_at,"
        " created_at) VALUES ($1, $2, $3, 'standard', '{}', $4, $5, $6, $7, $7)",
        *(delivery_id, project, channel, list(tags), sandbox, send_at, at),
    )
    await store.pool.execute(
        "INSERT INTO deliveries (id, message_id, project_id, channel, delivery_class, recipient, sandbox, state,"
        " expires_at) VALUES ($1, $1, $2, $3, 'standard', 'a', $4, 'QUEUED', $5)",
        *(delivery_id, project, channel, sandbox, at),
    )
    for number, (provider, cost) in enumerate((costs or {}).items(), 1):
        await store.pool.execute(
            "INSERT INTO attempts (delivery_id, number, project_id, provider_id, retry_round, client_reference,"
            " routing_decision, started_at, cost) VALUES ($1, $2, $3, $4, 1, '', '', $5, $6)",
            *(delivery_id, number, project, provider, at, cost),
        )
    await append(store, delivery_id, *history, project=project)
    return delivery_id


async def append(store, delivery_id, *history, project=PROJECT):
    for event in history:
        type_, provider, seconds = event if isinstance(event, tuple) else (event, None, 0)
        await store.pool.execute(
            "INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, provider_id,"
            " attempt) SELECT $1, count(*) + 1, $2, $3, $4, $5, $6,"
            " (SELECT number FROM attempts WHERE delivery_id = $1 AND provider_id = $6)"
            " FROM events WHERE delivery_id = $1",
            *(delivery_id, project, type_, STATE_ASSERTED_BY[EventType(type_)], after(seconds), provider),
        )


async def count(store, *delivery_ids):
    return await analytics.count(store.event_worker, delivery_ids)


async def read(store, within=DAY, filters=ALL, by=(), project=PROJECT, sandbox=False):
    async with store.rows_of(project) as db:
        return await analytics.read(db, ProjectScope(project, sandbox), within, filters, by)


async def counts(store, **arguments):
    """The numbers of the whole range that are not 0."""
    groups = [group for group in await read(store, **arguments) if group.starts_at is None]
    return {name.value: number for group in groups for name, number in group.counts.items() if number}


async def differences(store):
    return [tuple(row) for row in await store.pool.fetch(DIFFERENCES, timeout=60.0)]


SENT = ("accepted", ("sending", ADA, 1), ("sent", ADA, 2))
DELIVERED = (*SENT, ("delivered", ADA, 9))


async def test_a_delivery_is_counted_by_what_became_of_it(store):
    await count(store, await a_delivery(store, *DELIVERED), await a_delivery(store, *SENT))

    assert await counts(store) == {"settled": 2, "sent": 2, "delivered": 1}
    assert await differences(store) == []


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (["accepted"], {}),
        (["accepted", ("sending", ADA, 1)], {}),
        (["accepted", "cancelled"], {}),
        (["accepted", "failed"], {"settled": 1, "failed": 1}),
        (["accepted", ("sending", ADA, 1), "expired"], {"settled": 1, "failed": 1}),
        ([*SENT, ("failed", ADA, 3)], {"settled": 1, "sent": 1, "failed": 1}),
        ([*SENT, ("failed", ADA, 3), ("delivered", ADA, 4)], {"settled": 1, "sent": 1, "delivered": 1}),
        ([*SENT, ("soft_bounce", ADA, 3)], {"settled": 1, "sent": 1, "bounced": 1}),
        ([*DELIVERED, ("bounced", ADA, 10)], {"settled": 1, "sent": 1, "bounced": 1}),
        ([*DELIVERED, ("complained", ADA, 10)], {"settled": 1, "sent": 1, "delivered": 1, "complained": 1}),
        ([*DELIVERED, *2 * [("opened", ADA, 10), ("clicked", ADA, 11)]],
         {"settled": 1, "sent": 1, "delivered": 1, "opened": 1, "clicked": 1}),
        ([*DELIVERED, ("read", ADA, 10)], {"settled": 1, "sent": 1, "delivered": 1, "opened": 1}),
        (["accepted", ("sending", ADA, 1), ("attempt_failed", ADA, 2), "unconfirmed"],
         {"settled": 1, "unconfirmed": 1}),
        (["accepted", ("sending", ADA, 1), ("attempt_failed", ADA, 2), ("sending", ADA, 3), ("attempt_failed", ADA, 4),
          ("sending", BOB, 5), ("sent", BOB, 6)], {"settled": 1, "sent": 1, "failovers": 1}),
    ],
)  # fmt: skip
async def test_every_history_is_counted_once_at_once_or_event_by_event(store, history, expected):
    await count(store, await a_delivery(store, *history))
    assert await counts(store) == expected

    piecewise = await a_delivery(store, project=OTHER_PROJECT)
    for event in history:
        await append(store, piecewise, event, project=OTHER_PROJECT)
        await count(store, piecewise)

    assert await counts(store, project=OTHER_PROJECT) == expected
    assert await differences(store) == []


async def test_counts_belong_to_the_provider_whose_event_made_them(store):
    history = ["accepted", ("sending", ADA, 1), ("attempt_failed", ADA, 2), ("sending", BOB, 3), ("sent", BOB, 4)]
    await count(
        store,
        await a_delivery(store, *history, ("delivered", ADA, 5)),  # ADA had taken it after all
        await a_delivery(store, "accepted", "failed"),
        await a_delivery(store, "accepted", ("sending", BOB, 1), ("attempt_failed", BOB, 2), "failed"),
    )

    groups = {g.provider_id: g.counts for g in await read(store, by=[Grouping.PROVIDER]) if g.starts_at is None}
    assert {provider: {name.value: n for name, n in c.items() if n} for provider, c in groups.items()} == {
        None: {"settled": 1, "failed": 1},
        ADA: {"settled": 1, "delivered": 1, "failovers": 1},
        BOB: {"settled": 1, "sent": 1, "failed": 1},
    }


async def test_every_attempt_that_a_provider_took_costs_its_price_once(store):
    failed_over = ["accepted", ("sending", ADA, 1), ("attempt_failed", ADA, 2), ("sending", BOB, 3), ("sent", BOB, 4)]
    priced = {"costs": {ADA: 12_000, BOB: 7_000}}
    await count(
        store,
        await a_delivery(store, *failed_over, **priced),  # ADA has refused it: it costs what BOB takes
        await a_delivery(store, *failed_over, ("delivered", ADA, 5), ("delivered", ADA, 6), **priced),  # both took it
        await a_delivery(store, *failed_over[:3], "failed", **priced),  # none
        await a_delivery(store, *failed_over, costs={ADA: 12_000, BOB: None}),
        await a_delivery(store, *failed_over, costs={ADA: None, BOB: 0}),
    )

    groups = {g.provider_id: g.counts for g in await read(store, by=[Grouping.PROVIDER]) if g.starts_at is None}
    assert [(groups[one][Count.COST], groups[one][Count.UNPRICED]) for one in (ADA, BOB)] == [(12_000, 0), (14_000, 1)]
    assert await differences(store) == []


async def test_what_is_counted_again_changes_nothing(store):
    delivered = await a_delivery(store, *DELIVERED, tags=["a", "b"])

    assert [await count(store, delivered, delivered), await count(store, delivered)] == [1, 0]
    assert await counts(store) == {"settled": 1, "sent": 1, "delivered": 1}


async def test_replicas_that_count_at_once_count_each_event_once(store):
    delivered = [await a_delivery(store, *SENT, tags=["a"]) for _ in range(40)]
    counted = await at_once(*(count(store, *delivered[n % 7 :]) for n in range(12)))
    assert sum(counted) == 40

    await at_once(*(append(store, one, ("delivered", ADA, 9)) for one in delivered))
    await at_once(*(count(store, *reversed(delivered[n % 5 :])) for n in range(12)))

    assert await counts(store) == {"settled": 40, "sent": 40, "delivered": 40}
    assert await differences(store) == []


async def test_a_count_that_is_interrupted_leaves_nothing_behind(store, monkeypatch):
    delivered = await a_delivery(store, *DELIVERED)

    async def interrupted(*_):
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(analytics, "_add", interrupted)
        with pytest.raises(ConnectionError):
            await count(store, delivered)
    assert (await counts(store), await store.count("analytics_progress")) == ({}, 0)

    assert await count(store, delivered) == 1
    assert await counts(store) == {"settled": 1, "sent": 1, "delivered": 1}


async def test_a_delivery_that_does_not_exist_is_not_counted(store):
    assert await count(store, ids.uuid7(milliseconds(NOON))) == 0
    assert await store.count("analytics_progress") == 0


_PROVIDERS = st.sampled_from([None, ADA, BOB])
_EVENTS = st.tuples(
    st.sampled_from([type_.value for type_ in EventType]),
    _PROVIDERS,
    st.integers(-60_000, 9_000_000).map(lambda n: n / 1000),
)
_DELIVERIES = st.fixed_dictionaries(
    {
        "history": st.lists(_EVENTS, max_size=9),
        "tags": st.sets(st.sampled_from(["a", "b", "ünï"])),
        "channel": st.sampled_from(["email", "sms"]),
        "sandbox": st.booleans(),
        "project": st.sampled_from([PROJECT, OTHER_PROJECT]),
        "at": st.integers(-90_000, 90_000).map(after),
        "send_at": st.none() | st.integers(-10, 100).map(after),
        "costs": st.dictionaries(st.sampled_from([ADA, BOB]), st.none() | st.integers(0, 10**12)),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=st.lists(_DELIVERIES, min_size=1, max_size=5), data=st.data())
async def test_any_order_of_events_and_batches_equals_a_recount(store, deliveries, data):
    await store.pool.execute(
        "DELETE FROM messages; DELETE FROM deliveries; DELETE FROM attempts; DELETE FROM events;"
        " DELETE FROM analytics_rollups; DELETE FROM analytics_progress"
    )
    rest = {}
    for delivery in deliveries:
        history = ["accepted", *delivery.pop("history")]
        rest[await a_delivery(store, **delivery)] = (history, delivery["project"])
    batch = st.lists(st.sampled_from(sorted(rest)), max_size=4)
    while any(history for history, _ in rest.values()):
        for delivery_id, (history, project) in rest.items():
            taken = data.draw(st.integers(1, 4))
            await append(store, delivery_id, *history[:taken], project=project)
            del history[:taken]
        # Two replicas, with repeats, and records that arrive before or after their turn.
        batches = [data.draw(batch), data.draw(batch)]
        await asyncio.gather(*(count(store, *each) for each in batches))
    await count(store, *rest)

    assert await differences(store) == []


async def test_the_recount_finds_a_wrong_rollup(store):
    await count(store, await a_delivery(store, *DELIVERED))
    await store.pool.execute("UPDATE analytics_rollups SET sent = sent + 1 WHERE interval = 'hour'")

    assert sorted(row[0] for row in await differences(store)) == ["only in the recount", "only in the rollups"]


# -- reading -------------------------------------------------------------------------------------------------------


async def test_numbers_are_divided_by_interval_and_grouping(store):
    await count(
        store,
        await a_delivery(store, *DELIVERED),
        await a_delivery(store, *SENT, at=after(3600), channel="sms"),
        await a_delivery(store, *SENT, at=after(3 * 3600)),  # after the range
        await a_delivery(store, *SENT, project=OTHER_PROJECT),
        await a_delivery(store, *SENT, sandbox=True),
    )

    found = await read(store, HOURS, by=[Grouping.CHANNEL])

    assert [(g.starts_at, g.channel, g.counts[Count.SENT], g.counts[Count.DELIVERED]) for g in found] == [
        (None, "email", 1, 1),
        (None, "sms", 1, 0),
        (NOON, "email", 1, 1),
        (after(3600), "sms", 1, 0),
    ]
    assert await counts(store, within=HOURS, filters=Filter(channels=["sms"])) == {"settled": 1, "sent": 1}
    assert await counts(store, sandbox=True) == {"settled": 1, "sent": 1}


async def test_a_message_with_two_tags_counts_for_both_and_once_in_all(store):
    await count(store, await a_delivery(store, *SENT, tags=["a", "b"]), await a_delivery(store, *SENT, tags=["a"]))

    by_tag = [(g.tag, g.counts[Count.SENT]) for g in await read(store, by=[Grouping.TAG]) if g.starts_at is None]
    assert by_tag == [("a", 2), ("b", 1)]
    assert await counts(store) == {"settled": 2, "sent": 2}
    assert await counts(store, filters=Filter(tag="b")) == {"settled": 1, "sent": 1}
    assert [g.tag for g in await read(store, filters=Filter(tag="b"), by=[Grouping.TAG])] == ["b", "b"]


async def test_a_grouping_by_tag_has_the_largest_tags(store, monkeypatch):
    monkeypatch.setattr(analytics, "MAX_TAGS", 2)
    for tags in (["a"], ["b", "c"], ["c"], ["b"]):
        await count(store, await a_delivery(store, *SENT, tags=tags))

    assert {g.tag for g in await read(store, by=[Grouping.TAG])} == {"b", "c"}


def quantiles(group, duration, fractions=(0.5,)):
    return Histogram.parse(group.histograms[duration]).quantiles(fractions)


async def test_percentiles_are_those_of_all_deliveries_and_no_average(store):
    for provider, durations in ((ADA, [1] * 98), (BOB, [1000, 2000])):
        for seconds in durations:
            await count(store, await a_delivery(store, "accepted", ("sent", provider, seconds)))

    [total, _day] = await read(store)
    assert quantiles(total, Duration.ACCEPT_TO_SENT, [0.5, 0.98, 0.99, 1.0]) == [
        pytest.approx(1e3, rel=0.032),
        pytest.approx(1e3, rel=0.032),
        pytest.approx(1e6, rel=0.032),
        pytest.approx(2e6, rel=0.032),
    ]
    assert quantiles(total, Duration.SENT_TO_DELIVERED) == [None]


async def test_a_scheduled_message_is_measured_from_the_time_to_send_at(store):
    await count(store, await a_delivery(store, "accepted", ("sent", ADA, 3601), send_at=after(3600)))

    [total, _] = await read(store)
    assert quantiles(total, Duration.ACCEPT_TO_SENT) == [pytest.approx(1e3, rel=0.032)]


# -- rebuilding and retention --------------------------------------------------------------------------------------


async def rebuilt(store, since=NOON):
    return [progress async for progress in analytics.rebuild(store.operator, since=since, now=after(60))]


async def spoil(store):
    await store.pool.execute("UPDATE analytics_rollups SET sent = 77, accept_to_sent = 1")


@pytest.fixture
async def weeks(store):
    """The partitions of the week of noon."""
    await partitions.ensure(store.pool, NOON)


@pytest.mark.usefixtures("weeks")
async def test_a_rebuild_equals_a_recount(store, monkeypatch):
    monkeypatch.setattr(analytics, "BATCH", 3)
    made = [await a_delivery(store, *DELIVERED, tags=["a"], at=after(n * 20_000)) for n in range(8)]
    await count(store, *made[:5])
    await spoil(store)

    progress = await rebuilt(store)

    assert await differences(store) == []
    assert progress[-1].deliveries == 8
    assert [one.until for one in progress] == sorted(one.until for one in progress)
    await count(store, *made)  # late records
    assert await differences(store) == []


@pytest.mark.usefixtures("weeks")
async def test_a_rebuild_while_events_are_counted_equals_a_recount(store):
    made = [await a_delivery(store, *SENT) for _ in range(60)]
    await count(store, *made)

    async def receive():
        for one in made:
            await append(store, one, ("delivered", ADA, 9))
            await count(store, one)

    await asyncio.gather(receive(), rebuilt(store), rebuilt(store))

    assert await counts(store) == {"settled": 60, "sent": 60, "delivered": 60}
    assert await differences(store) == []


@pytest.mark.usefixtures("weeks")
async def test_a_rebuild_keeps_the_days_before_and_those_without_their_deliveries(store):
    gone = await a_delivery(store, *DELIVERED, at=NOON - timedelta(days=400))
    before = await a_delivery(store, *DELIVERED, at=NOON - timedelta(days=1))
    await count(store, gone, before)
    await store.pool.execute("DELETE FROM deliveries WHERE id = $1", gone)
    kept = "SELECT * FROM analytics_rollups WHERE starts_at < $1 ORDER BY starts_at, interval"
    rollups = await store.pool.fetch(kept, DAY.first)

    await rebuilt(store)
    assert await store.pool.fetch(kept, DAY.first) == rollups

    await rebuilt(store, since=NOON - timedelta(days=1000))
    assert await store.pool.fetch(kept, DAY.first) == rollups


@pytest.fixture
async def old_weeks(store):
    """The first moments of two old weeks with partitions, each with a counted delivery; they are dropped afterwards."""
    weeks = [NOON - timedelta(weeks=15), NOON - timedelta(weeks=14)]
    await partitions.ensure(store.pool, weeks[0])  # and the two weeks after it
    await count(store, *[await a_delivery(store, *DELIVERED, at=when) for when in weeks])
    yield weeks
    for ahead in range(partitions.WEEKS_AHEAD + 1):
        await store.pool.fetchval("SELECT drop_week($1)", partitions.week_of(weeks[0] + timedelta(weeks=ahead)))


@pytest.mark.usefixtures("weeks")
async def test_a_rebuild_keeps_the_rollups_of_weeks_that_were_dropped_behind_a_kept_one(store, old_weeks):
    kept, dropped = old_weeks
    assert await store.router.fetchval("SELECT drop_week($1)", partitions.week_of(dropped))
    rollups = await store.pool.fetch("SELECT * FROM analytics_rollups ORDER BY starts_at, interval")

    await rebuilt(store, since=kept)

    assert await store.pool.fetch("SELECT * FROM analytics_rollups ORDER BY starts_at, interval") == rollups


async def test_a_week_is_not_dropped_between_the_deletion_of_a_day_and_its_count(store, old_weeks, monkeypatch):
    next_ids = analytics._next_ids

    async def dropping(*arguments):
        with pytest.raises(asyncpg.LockNotAvailableError):
            await store.router.fetchval("SELECT drop_week($1)", partitions.week_of(old_weeks[0]))
        return await next_ids(*arguments)

    monkeypatch.setattr(analytics, "_next_ids", dropping)
    rebuild = analytics.rebuild(store.operator, since=old_weeks[0], now=NOON)
    assert (await anext(rebuild)).deliveries == 1
    await rebuild.aclose()

    assert await differences(store) == []


async def test_old_rollups_are_deleted_hours_before_days(store):
    for days in (0, 34, 36, 800):
        await count(store, await a_delivery(store, *SENT, at=NOON - timedelta(days=days)))

    deleted = await analytics.delete_old(store.router, now=NOON, days_kept=timedelta(days=730))

    left = await store.pool.fetch("SELECT interval, starts_at FROM analytics_rollups ORDER BY 1, 2 DESC")
    assert deleted == 3
    assert [(row["interval"], (NOON - row["starts_at"]).days) for row in left] == [
        ("day", 0), ("day", 34), ("day", 36), ("hour", 0), ("hour", 34)
    ]  # fmt: skip
    assert await analytics.delete_old(store.router, now=NOON, days_kept=None) == 0
