"""Slots that bound how many processes of the installation do a thing at once.

A slot is a session-level advisory lock: PostgreSQL releases it when the holder's connection ends, so a killed process
leaves nothing to clean up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from sluice.store.db import UNAVAILABLE_ERRORS

_CHECK_INTERVAL = 3.0  # seconds between checks that the connection, and so the lock, is alive
_CHECK_TIMEOUT = 5.0
# The server has to give up a silent holder later than the holder gives up the server (8 s): 10 + 3 x 5 s.
_KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}


class Slot:
    """A slot that is held; :meth:`lost` returns when it may belong to another process."""

    def __init__(self, connection: asyncpg.Connection, number: int) -> None:
        self._connection = connection
        self.number = number
        self._closed = asyncio.Event()
        connection.add_termination_listener(lambda _: self._closed.set())

    async def lost(self) -> None:
        """Return when the connection that holds the lock has ended or does not answer."""
        while not self._closed.is_set():
            try:
                async with asyncio.timeout(_CHECK_INTERVAL):
                    await self._closed.wait()
            except TimeoutError:
                try:
                    await self._connection.execute("SELECT 1", timeout=_CHECK_TIMEOUT)
                except UNAVAILABLE_ERRORS:
                    return


@asynccontextmanager
async def try_slot(dsn: str, *, name: str, slots: int) -> AsyncIterator[Slot | None]:
    """One of ``slots`` slots of that name, held until the block ends; None when all are held.

    Raises:
        The errors of ``UNAVAILABLE_ERRORS``: PostgreSQL cannot be reached.
    """
    connection = await asyncpg.connect(
        dsn, timeout=3.0, command_timeout=10.0, server_settings={"application_name": "sluice-slot", **_KEEPALIVE}
    )
    try:
        number = await connection.fetchval(
            """
            WITH RECURSIVE tried (number, held) AS (
                SELECT 1, pg_try_advisory_lock(hashtext($1), 1)
                 UNION ALL
                SELECT number + 1, pg_try_advisory_lock(hashtext($1), number + 1)
                  FROM tried WHERE NOT held AND number < $2
            )
            SELECT number FROM tried WHERE held
            """,
            name,
            slots,
        )
        yield None if number is None else Slot(connection, number)
    finally:
        connection.terminate()
