"""The connection pool, and the part of a connection that query functions use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import asyncpg

from sluice.runtime.errors import SluiceError

Pool = asyncpg.Pool
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Row = asyncpg.Record

# The errors of an unavailable, slow or stopping PostgreSQL; any other error is a bug.
UNAVAILABLE_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InsufficientResourcesError,
)


# The statistics of tables that grow fast are outdated: the planner expects few rows, and scans and sorts whole
# partitions or id ranges. Every statement of a role is meant to use an index and its order, and a batch to look up its
# rows by id:
# - no table scan and no sort where an index can do;
# - one generic plan. With it a batch with ``LIMIT cardinality($1)`` is a single row to the planner, for which an index
#   lookup is always best;
# - no id range beside the ids, although it would exclude partitions earlier: where the planner expected one row in the
#   range, it read the range once per row of the batch. With a backlog of 40,000, that delayed deliveries by 4 s.
_INDEX_ONLY_PLANS = {
    "enable_seqscan": "off",
    "enable_sort": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}


def columns(
    rows: Sequence[Any], *, sparse: Container[str] = (), without: Container[str] = ()
) -> dict[str, Sequence[Any]]:
    """The fields of a batch of named tuples (at least one) as columns for ``unnest``, by name, in field order.

    A sparse column of false values only is empty: ``unnest`` fills it with nulls, and each passed value costs time.
    Fields in ``without`` are omitted.
    """
    named = zip(rows[0]._fields, zip(*rows, strict=True), strict=True)
    return {name: () if name in sparse and not any(column) else column for name, column in named if name not in without}


class Db(Protocol):
    """What a query function uses: statements, but not their transaction.

    A pool, a connection and a connection inside a transaction all qualify, so that the caller decides what is one
    transaction.
    """

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...
    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...
    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...


class _Stateless(asyncpg.Connection):
    """A connection without a reset query: no role leaves state in a session, and a reset would cost each statement a
    second round trip. An open transaction is rolled back nevertheless.
    """

    def get_reset_query(self) -> str:
        """No reset."""
        return ""


@asynccontextmanager
async def open_pool(
    dsn: str, *, size: int, name: str, command_timeout: float = 10.0, wait: float = 30.0
) -> AsyncIterator[asyncpg.Pool]:
    """A pool of up to ``size`` connections; waits up to ``wait`` seconds for the server to start.

    Raises:
        SluiceError: the server is unreachable after that time, or refuses the connection; the text has its last error.
    """
    pool = await _connect(dsn, size=size, name=name, command_timeout=command_timeout, wait=wait)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5.0)
        except UNAVAILABLE_ERRORS:
            pool.terminate()


async def _connect(dsn: str, *, size: int, name: str, command_timeout: float, wait: float) -> asyncpg.Pool:
    deadline = time.monotonic() + wait
    while True:
        try:
            return await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=size,
                command_timeout=command_timeout,
                timeout=3.0,
                max_inactive_connection_lifetime=300.0,
                connection_class=_Stateless,
                server_settings={"application_name": f"sluice-{name}", **_INDEX_ONLY_PLANS},
            )
        except UNAVAILABLE_ERRORS as error:
            if time.monotonic() > deadline:
                raise SluiceError(f"cannot connect to PostgreSQL: {error or type(error).__name__}") from error
            await asyncio.sleep(0.3)
        except (asyncpg.PostgresError, ValueError) as error:
            raise SluiceError(f"PostgreSQL refuses the connection: {error}") from error
