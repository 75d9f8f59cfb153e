"""Webhook requests without a valid signature, counted by provider: many of them mean a wrong webhook secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import structlog

from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import provider_receipts
from sluice.store.db import UNAVAILABLE_ERRORS, Pool, rows_of
from sluice.store.provider_receipts import Refusals
from sluice.store.providers import ProviderRow

log = structlog.get_logger()

_INTERVAL = 5.0  # seconds between two statements; anyone can send forgeries, as many as they like


class RefusalCounter:
    """Counts in memory, one entry for each provider, and adds the counts to the database every few seconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._counts: dict[UUID, Refusals] = {}

    def add(self, row: ProviderRow) -> None:
        """One more."""
        metrics.RECEIPTS.labels(row.package, "forged").inc()
        known = self._counts.get(row.id)
        self._counts[row.id] = Refusals(row.id, row.project_id, utc_now(), known.number + 1 if known else 1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RefusalCounter]:
        """Write until the block ends, the rest at its end."""
        loop = supervised(self._run(), name="refusals")
        try:
            yield self
        finally:
            await cancel_and_wait(loop)
            with suppress(*UNAVAILABLE_ERRORS):
                await self.write()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self.write()
            except UNAVAILABLE_ERRORS as error:
                log.warning("refusals_retrying", missing="postgres", error=type(error).__name__)

    async def write(self) -> None:
        """Add the counts to the database; they are kept when that fails.

        Raises:
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``.
        """
        batch, self._counts = self._counts, {}
        if not batch:
            return
        try:
            async with rows_of(self._pool, {one.project_id for one in batch.values()}) as db:
                await provider_receipts.count_refusals(db, list(batch.values()))
        except UNAVAILABLE_ERRORS:
            for provider_id, lost in batch.items():
                newer = self._counts.get(provider_id)
                self._counts[provider_id] = lost if newer is None else newer._replace(number=newer.number + lost.number)
            raise
