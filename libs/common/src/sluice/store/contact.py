"""Contact with PostgreSQL: whether it answers, and what its clock says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from sluice.runtime import clock, metrics
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store.db import DATABASE_ERRORS, Pool

log = structlog.get_logger()

_INTERVAL = 1.0  # seconds between two probes
_TIMEOUT = 2.0  # seconds a probe may take, with the wait for a connection
# Seconds: half of a round trip is the error of the time that it brings. A slower one is not used, except as the first.
_MAX_ROUND_TRIP = 0.1
_SKEW_LIMIT = 1.0  # seconds by which this machine's clock may be wrong before that is logged
_SILENCE_LIMIT = 5.0  # seconds without an answer after which PostgreSQL counts as unavailable


class DatabaseContact:
    """Probes PostgreSQL through the pool that the role works with, and makes the process follow its clock."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._answered_at = time.monotonic()
        self._error = ""
        self._following = False
        self._skewed = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DatabaseContact]:
        """Probe until the block ends; the first answer is there when it begins, or the reason why there is none."""
        await self._probe()
        probing = supervised(self._probe_regularly(), name="database-contact")
        try:
            yield self
        finally:
            await cancel_and_wait(probing)

    def fault(self) -> str | None:
        """None while PostgreSQL answers; otherwise a sentence for readiness."""
        silence = time.monotonic() - self._answered_at
        if silence <= _SILENCE_LIMIT:
            return None
        error = f" ({self._error})" if self._error else ""
        return f"PostgreSQL has not answered for {silence:.0f} s{error}"

    async def _probe_regularly(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            await self._probe()

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT), self._pool.acquire(timeout=_TIMEOUT) as connection:
                sent = time.monotonic()
                moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
                received = time.monotonic()
        except DATABASE_ERRORS as error:
            if not self._error:
                log.warning("postgres_unavailable", error=type(error).__name__)
            self._error = type(error).__name__
            return
        if self._error:
            log.info("postgres_available", seconds=round(time.monotonic() - self._answered_at))
        self._answered_at, self._error = time.monotonic(), ""
        if received - sent <= _MAX_ROUND_TRIP or not self._following:
            self._follow_clock(moment, (sent + received) / 2)

    def _follow_clock(self, moment: datetime, at: float) -> None:
        skew = clock.follow(moment, at=at).total_seconds()
        self._following = True
        metrics.CLOCK_SKEW.set(skew)
        skewed = abs(skew) > _SKEW_LIMIT
        if skewed and not self._skewed:
            log.warning("clock_skewed", seconds=round(skew, 1), followed="PostgreSQL")
        self._skewed = skewed
