"""Transactions of the services, with PostgreSQL's absence as an error of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from gateway.kit.database import database_errors
from sluice.store.db import Connection, Pool, rows_of


@asynccontextmanager
async def transaction(pool: Pool, *project_ids: UUID) -> AsyncIterator[Connection]:
    """A connection in a transaction, which commits when the block ends without an error.

    It sees and changes the rows of these projects, and those of tables without a project: see ``rows_of``.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    with database_errors():
        async with rows_of(pool, project_ids) as connection:
            yield connection
