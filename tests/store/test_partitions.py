"""The weekly partitions: a row lies in the week of its id, whatever its clock says."""

from datetime import timedelta

import asyncpg
import pytest

from sluice.runtime.clock import utc_now
from sluice.store import partitions
from tests.examples import a_claim, a_message
from tests.store.harness import StoreHarness, at_once

pytestmark = pytest.mark.store

NOW = utc_now()
NEXT_YEAR = NOW + timedelta(days=365)


@pytest.fixture
async def store(database):
    """On a database of its own: partitions are made in it."""
    async with asyncpg.create_pool(database, min_size=0, max_size=10) as pool:
        yield StoreHarness(pool)


async def partition_of(store, table, column, identifier):
    return await store.pool.fetchval(
        f"SELECT tableoid::regclass::text FROM {table} WHERE {column} = $1 LIMIT 1", identifier
    )


async def where_it_lies(store, when):
    """The partitions of one message's rows."""
    message = a_message(when)
    await store.accept(message)
    delivery_id = message.deliveries[0].id
    await store.claim(a_claim(delivery_id), at=when)
    return {
        "messages": await partition_of(store, "messages", "id", message.id),
        "deliveries": await partition_of(store, "deliveries", "id", delivery_id),
        "attempts": await partition_of(store, "attempts", "delivery_id", delivery_id),
        "events": await partition_of(store, "events", "delivery_id", delivery_id),
    }


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(weeks=1), timedelta(weeks=2)])
async def test_all_of_a_message_lies_in_the_partition_of_its_week(store, ahead):
    moment = NOW + ahead

    assert await where_it_lies(store, moment) == {
        table: f"{table}_{moment:%G}w{moment:%V}" for table in ("messages", "deliveries", "attempts", "events")
    }


async def test_a_week_begins_on_monday_at_midnight(store):
    monday = (NOW - timedelta(days=NOW.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    monday += timedelta(weeks=1)

    before, after = [
        (await where_it_lies(store, monday + step))["messages"] for step in (timedelta(milliseconds=-1), timedelta(0))
    ]

    assert (before, after) == (f"messages_{NOW:%G}w{NOW:%V}", f"messages_{monday:%G}w{monday:%V}")


async def test_what_has_no_week_yet_lies_with_the_rest(store):
    assert (await where_it_lies(store, NEXT_YEAR))["deliveries"] == "deliveries_default"


async def test_what_is_there_is_not_made_again(store):
    assert await partitions.ensure(store.pool, NOW) == []


async def test_the_weeks_ahead_are_made(store):
    made = await partitions.ensure(store.pool, NEXT_YEAR)

    weeks = [NEXT_YEAR + timedelta(weeks=number) for number in range(partitions.WEEKS_AHEAD + 1)]
    assert made == [f"{table}_{week:%G}w{week:%V}" for table in partitions.TABLES for week in weeks]


async def test_many_may_make_them_at_once(store):
    await at_once(*[partitions.ensure(store.pool, NEXT_YEAR) for _ in range(4)])

    assert await partitions.ensure(store.pool, NEXT_YEAR) == []


async def test_rows_of_a_fast_clock_do_not_stop_the_making_of_partitions(store):
    await where_it_lies(store, NEXT_YEAR)

    made = await partitions.ensure(store.pool, NEXT_YEAR)

    missing = f"{NEXT_YEAR:%G}w{NEXT_YEAR:%V}"
    later = NEXT_YEAR + timedelta(weeks=1)
    assert f"deliveries_{missing}" not in made
    assert f"deliveries_{later:%G}w{later:%V}" in made
