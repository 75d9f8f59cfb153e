"""A server that becomes a standby: its connections are given up, and the error counts as an outage."""

import asyncpg
import pytest

from sluice.store.db import UNAVAILABLE_ERRORS, open_pool

INSERT = "INSERT INTO bus_disagreements VALUES (gen_random_uuid(), 'state', 1, now())"
STATEMENTS = ("execute", "fetch", "fetchrow", "fetchval")


@pytest.fixture
async def demoted(database):
    """A pool of one connection, whose server writes nothing any more as after a failover."""
    async with open_pool(database, size=1, name="test") as pool:
        await pool.execute("SET default_transaction_read_only = on")
        yield pool


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_25006_is_an_outage_after_which_the_pool_connects_again(demoted, statement):
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError) as raised:
        await getattr(demoted, statement)(f"{INSERT} RETURNING count")

    assert isinstance(raised.value, UNAVAILABLE_ERRORS)
    await getattr(demoted, statement)(f"{INSERT} RETURNING count")  # on a new connection
    assert await demoted.fetchval("SELECT count(*) FROM bus_disagreements") == 1


async def test_25006_in_a_transaction_is_an_outage_too(demoted):
    with pytest.raises(UNAVAILABLE_ERRORS):
        async with demoted.acquire() as connection, connection.transaction():
            await connection.execute(INSERT)

    async with demoted.acquire() as connection, connection.transaction():
        await connection.execute(INSERT)
    assert await demoted.fetchval("SELECT count(*) FROM bus_disagreements") == 1


async def test_another_error_keeps_the_connection(demoted):
    before = await demoted.fetchval("SELECT pg_backend_pid()")
    with pytest.raises(asyncpg.UndefinedTableError):
        await demoted.fetch("SELECT FROM nothing")

    assert await demoted.fetchval("SELECT pg_backend_pid()") == before
