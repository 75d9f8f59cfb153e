"""Weekly table partitions: a row is in the partition of its id's week."""

from datetime import timedelta

import asyncpg
import pytest

from sluice.runtime.clock import utc_now
from sluice.store import partitions
from tests.examples import a_claim, a_message
from tests.store.harness import StoreHarness, at_once, open_role_pools

NOW = utc_now()
NEXT_YEAR = NOW + timedelta(days=365)


@pytest.fixture
async def store(database):
    """A harness with its own database, because partitions are created in it."""
    async with asyncpg.create_pool(database, min_size=0, max_size=10) as pool, open_role_pools(database) as roles:
        yield StoreHarness(pool, roles)


async def partition_of(store, table, column, identifier):
    return await store.pool.fetchval(
        f"SELECT tableoid::regclass::text FROM {table} WHERE {column} = $1 LIMIT 1", identifier
    )


async def partitions_of(store, when):
    """The table partitions of one message's rows."""
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
async def test_all_rows_of_a_message_are_in_the_partition_of_its_week(store, ahead):
    moment = NOW + ahead

    assert await partitions_of(store, moment) == {
        table: f"{table}_{moment:%G}w{moment:%V}" for table in ("messages", "deliveries", "attempts", "events")
    }


async def test_a_week_starts_on_monday_at_midnight(store):
    monday = (NOW - timedelta(days=NOW.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    monday += timedelta(weeks=1)

    before, after = [
        (await partitions_of(store, monday + step))["messages"] for step in (timedelta(milliseconds=-1), timedelta(0))
    ]

    assert (before, after) == (f"messages_{NOW:%G}w{NOW:%V}", f"messages_{monday:%G}w{monday:%V}")


async def test_rows_of_a_week_without_a_partition_are_in_the_default_partition(store):
    assert (await partitions_of(store, NEXT_YEAR))["deliveries"] == "deliveries_default"


async def test_existing_partitions_are_not_created_again(store):
    assert await partitions.ensure(store.router, NOW) == []


async def test_the_coming_weeks_are_created(store):
    made = await partitions.ensure(store.router, NEXT_YEAR)

    weeks = [NEXT_YEAR + timedelta(weeks=number) for number in range(partitions.WEEKS_AHEAD + 1)]
    assert made == [f"{table}_{week:%G}w{week:%V}" for table in partitions.TABLES for week in weeks]


async def test_concurrent_creation_succeeds(store):
    await at_once(*[partitions.ensure(store.router, NEXT_YEAR) for _ in range(4)])

    assert await partitions.ensure(store.router, NEXT_YEAR) == []


async def test_rows_of_a_clock_that_is_ahead_do_not_prevent_other_partitions(store):
    await partitions_of(store, NEXT_YEAR)

    made = await partitions.ensure(store.router, NEXT_YEAR)

    missing = f"{NEXT_YEAR:%G}w{NEXT_YEAR:%V}"
    later = NEXT_YEAR + timedelta(weeks=1)
    assert f"deliveries_{missing}" not in made
    assert f"deliveries_{later:%G}w{later:%V}" in made
