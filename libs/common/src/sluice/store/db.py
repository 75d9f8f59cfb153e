"""The pool, and what a query function may ask of a connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import asyncpg

from sluice.runtime.errors import SluiceError

T = TypeVar("T")

Pool = asyncpg.Pool
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Row = asyncpg.Record

# What a caller may see when Postgres is away, slow or going down; everything else is a bug of ours.
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


# What the planner knows of tables that grow fast is old. For the handful of rows that it then expects it reads whole
# partitions and sorts them, or everything that lies between two ids. Every statement of a role is meant to go by an
# index and in its order, and a batch to look up its rows one by one by their ids. So:
# - no scan of a table and no sort where an index can do;
# - one plan for any values. With it a batch that says ``LIMIT cardinality($1)`` looks like a single row to the planner,
#   and for a single row looking up is always the best way;
# - no range of ids beside the ids, though it would let partitions be left out earlier: whenever the planner thought
#   that one row lay in the range it read the range for each row of the batch. With a pile of 40,000 that held new and
#   old deliveries up for four seconds.
_INDEX_ONLY_PLANS = {
    "enable_seqscan": "off",
    "enable_sort": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}


def sparse_column(column: Iterable[T | None]) -> list[T | None]:
    """A batch's column for ``unnest``, or an empty one where it says nothing: it is filled up with nulls, and each
    value that is passed costs.
    """
    values = list(column)
    return values if any(value is not None for value in values) else []


class Db(Protocol):
    """What a query function may do: ask and tell, never begin or commit.

    A pool, a connection and a connection inside a transaction all qualify, so the caller alone decides how much
    is one unit of work.
    """

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...
    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...
    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...


class _Stateless(asyncpg.Connection):
    """A pool's connection. Nothing of ours leaves state in a session, and undoing none would cost every statement a
    second round trip with four more statements. A transaction left open is rolled back all the same.
    """

    def get_reset_query(self) -> str:
        """Nothing to undo."""
        return ""


@asynccontextmanager
async def open_pool(
    dsn: str, *, size: int, name: str, command_timeout: float = 10.0, wait: float = 30.0
) -> AsyncIterator[asyncpg.Pool]:
    """A pool of up to ``size`` connections; waits up to ``wait`` seconds for the server to come up.

    Raises:
        SluiceError: the server could not be reached in that time, with its last answer.
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
                raise SluiceError(f"PostgreSQL does not answer: {error or type(error).__name__}") from error
            await asyncio.sleep(0.3)
        except (asyncpg.PostgresError, ValueError) as error:
            raise SluiceError(f"PostgreSQL refuses the connection: {error}") from error
