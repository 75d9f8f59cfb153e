"""Transactions of the services, with PostgreSQL's absence as an error of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.kit.database import database_errors
from sluice.store.db import Connection, Pool


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in a transaction, which commits when the block ends without an error.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    with database_errors():
        async with pool.acquire() as connection, connection.transaction():
            yield connection
