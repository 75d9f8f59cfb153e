"""What is written while a project is deleted does not outlive it."""

import asyncio

import pytest

from sluice.model.message import Channel
from sluice.model.suppression import SuppressionReason
from sluice.store import devices, projects, suppressions
from sluice.store.devices import Device
from sluice.store.suppressions import NewSuppression, Recipient
from tests.examples import NOON
from tests.polling import wait_until


@pytest.fixture
async def project_id(pool):
    return (await projects.create_project(pool, organization="Shop", slug="shop", name="Shop", now=NOON)).id


async def an_address(db, project_id):
    new = NewSuppression(Recipient(project_id, Channel.EMAIL, "ada@example.com"), SuppressionReason.COMPLAINT)
    await suppressions.add(db, [new], now=NOON)


async def a_device(db, project_id):
    await devices.register(db, project_id, Device("ada", "token", "fcm", None), now=NOON)


async def a_deletion(db, project_id):
    assert await projects.delete_project(db, project_id, now=NOON)


async def one_behind_the_other(pool, project_id, first, second):
    """Both at the same time: the second one waits for the transaction of the first."""

    async def is_waiting():
        return await pool.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        )

    async with pool.acquire() as connection, connection.transaction():
        await first(connection, project_id)
        waiting = asyncio.create_task(second(pool, project_id))
        await wait_until(is_waiting)
    await waiting


@pytest.mark.parametrize(("table", "write"), [("suppressions", an_address), ("devices", a_device)])
@pytest.mark.parametrize("is_deleted_first", [True, False])
async def test_what_is_written_while_a_project_is_deleted_does_not_outlive_it(
    pool, project_id, table, write, is_deleted_first
):
    await one_behind_the_other(pool, project_id, *((a_deletion, write) if is_deleted_first else (write, a_deletion)))

    assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_two_first_suppressions_of_a_project_do_not_block_each_other(pool, project_id):
    await one_behind_the_other(pool, project_id, an_address, an_address)

    assert await pool.fetchval("SELECT count(*) FROM suppressions") == 1
