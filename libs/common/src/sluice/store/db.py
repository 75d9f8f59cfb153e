"""The connection pool, and the part of a connection that query functions use."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg

from sluice.runtime.errors import SluiceError
from sluice.store.logins import PROJECT_IDS

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
    asyncpg.ReadOnlySQLTransactionError,  # the server was demoted: another one is the primary now
)

# Every error of PostgreSQL and of its driver, for what reports any of them, such as a command or a probe.
DATABASE_ERRORS: tuple[type[Exception], ...] = (*UNAVAILABLE_ERRORS, asyncpg.PostgresError)


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

    A connection whose server has become a standby is closed, so that the pool connects again: to the new primary, where
    the DSN has several hosts and ``target_session_attrs=read-write``, or its name leads there.
    """

    def get_reset_query(self) -> str:
        """No reset."""
        return ""

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """As asyncpg's."""
        with self._closed_when_read_only():
            return await super().execute(query, *args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        """As asyncpg's."""
        with self._closed_when_read_only():
            rows: list[Any] = await super().fetch(query, *args, **options)
            return rows

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's."""
        with self._closed_when_read_only():
            return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's."""
        with self._closed_when_read_only():
            return await super().fetchval(query, *args, **options)

    @contextmanager
    def _closed_when_read_only(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.ReadOnlySQLTransactionError:
            self.terminate()
            raise


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
    check_tls_files(dsn)
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
        except _CONNECT_ERRORS as error:
            if is_refusal(error) or time.monotonic() > deadline:
                raise connect_error(error) from error
            await asyncio.sleep(0.3)


async def connect(dsn: str, *, timeout: float, server_settings: Mapping[str, str] | None = None) -> asyncpg.Connection:
    """One connection outside a pool, for a command; ``timeout`` is in seconds.

    Raises:
        SluiceError: the server is unreachable, or refuses the connection.
    """
    check_tls_files(dsn)
    try:
        return await asyncpg.connect(dsn, timeout=timeout, server_settings=dict(server_settings or {}))
    except _CONNECT_ERRORS as error:
        raise connect_error(error) from error


_CONNECT_ERRORS: tuple[type[Exception], ...] = (*DATABASE_ERRORS, ValueError)
_NO_TLS = "rejected SSL upgrade"  # in the text of asyncpg's ConnectionError
_TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


def check_tls_files(dsn: str) -> None:
    """The driver's errors do not name a file.

    Raises:
        SluiceError: a file that the DSN names cannot be read.
    """
    options = parse_qs(urlsplit(dsn).query)
    for name in _TLS_FILES:
        for path in options.get(name, ()):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise SluiceError(f"{name} in the DSN of PostgreSQL is {path}: {error.strerror}") from None


def is_refusal(error: Exception) -> bool:
    """Whether another attempt to connect would fail in the same way: address, login or certificate are wrong."""
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
    if isinstance(error, ValueError) or _NO_TLS in str(error):
        return True
    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, UNAVAILABLE_ERRORS)


def connect_error(error: Exception) -> SluiceError:
    """The error for an operator, in one sentence."""
    reason = str(error) or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return SluiceError(
            f"PostgreSQL's certificate is not accepted: {error.verify_message}: see sslrootcert and the host in the DSN"
        )
    if isinstance(error, ssl.SSLError) and is_refusal(error):
        return SluiceError(f"TLS with PostgreSQL failed: {reason}: see sslrootcert, sslcert and sslkey in the DSN")
    if _NO_TLS in reason:
        return SluiceError("PostgreSQL does not offer TLS, which sslmode in the DSN requires")
    if isinstance(error, ValueError):
        return SluiceError(f"the DSN of PostgreSQL cannot be used: {reason}")
    if is_refusal(error):
        return SluiceError(f"PostgreSQL refuses the connection: {reason}")
    if isinstance(error, asyncpg.ConnectionDoesNotExistError):
        # With TLS 1.3 the server refuses a client's certificate in this way: the reason arrives after the handshake.
        reason += " (where TLS needs a client's certificate: the one of sslcert may be refused)"
    return SluiceError(f"cannot connect to PostgreSQL: {reason}")


@asynccontextmanager
async def rows_of(pool: Pool, project_ids: Iterable[UUID]) -> AsyncIterator[Connection]:
    """A transaction that sees and changes the rows of these projects only, by row-level security.

    For logins that see no project by default, such as the gateway's. Costs two round trips beside the statements:
    ``BEGIN`` and the setting are one, and the setting ends with the transaction.
    """
    async with pool.acquire() as connection:
        try:
            await connection.execute(f"BEGIN; SET LOCAL {PROJECT_IDS} = '{project_array(project_ids)}'")
            yield connection
        except BaseException:
            with suppress(*UNAVAILABLE_ERRORS):
                await connection.execute("ROLLBACK")
            raise
        await connection.execute("COMMIT")


def project_array(project_ids: Iterable[UUID]) -> str:
    """The value of ``sluice.project_ids``: an array of ids."""
    return f"{{{','.join(sorted({str(project_id) for project_id in project_ids}))}}}"
