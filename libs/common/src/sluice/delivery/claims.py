"""Claims of attempts: batched, and decided by the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import structlog

from sluice.delivery.job import Job
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime import failpoints
from sluice.runtime.batching import Batcher
from sluice.store import deliveries
from sluice.store.db import UNAVAILABLE_ERRORS, Db
from sluice.store.deliveries import Claim, Claimed

log = structlog.get_logger()

_RETRY_DELAY = 0.3  # seconds between tries while PostgreSQL is unavailable


class ClaimWriter:
    """Claims the attempts of many jobs with one statement; a claim holds for ``lease`` seconds."""

    def __init__(self, db: Db, *, lease: float) -> None:
        self._db = db
        self._lease = timedelta(seconds=lease)
        self._batcher: Batcher[Job, Claimed | None] = Batcher(
            self._flush, name="claim", size=200, parallel=2, pace=0.010, split_on=(asyncpg.DataError, ValueError)
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ClaimWriter]:
        """Claim until the block ends."""
        async with self._batcher.running():
            yield self

    def claim(self, job: Job) -> asyncio.Future[Claimed | None]:
        """The claim of the job's attempt; None if the delivery is settled, claimed elsewhere, or at another attempt.

        Retries while PostgreSQL is unavailable, as long as the record is owned by this consumer.

        Raises (through the future):
            asyncpg.DataError, ValueError: PostgreSQL cannot store the assignment.
        """
        return self._batcher.submit(job)

    async def _flush(self, jobs: Sequence[Job]) -> list[Claimed | None]:
        # A batch may hold a record twice, and the next attempt of the same delivery: each claim belongs to one job.
        owners: dict[tuple[UUID, int], Job] = {}
        for job in jobs:
            owners.setdefault(job.attempt, job)
        results = await self._write(list(owners.values()))
        return [results.get(job) for job in jobs]

    async def _write(self, jobs: list[Job]) -> dict[Job, Claimed | None]:
        claims, claim_id = [_claim_of(job) for job in jobs], uuid4()
        first_requested_at, in_doubt = time.monotonic(), False
        while True:
            requested_at = time.monotonic()
            assert failpoints.hit("claim.before_write")
            try:
                results = await deliveries.claim(self._db, claims, lease=self._lease, claim_id=claim_id)
                # An earlier try may have been committed although its answer was lost: its claims are refused now.
                own = await deliveries.find_claimed(self._db, claims, claim_id=claim_id) if in_doubt else results
                break
            except UNAVAILABLE_ERRORS as error:
                in_doubt = True
                log.warning("claim_retrying", error=type(error).__name__, waiting=len(jobs))
                await asyncio.sleep(_RETRY_DELAY)
                if not any(job.record.owned for job in jobs):
                    return {}
        assert failpoints.hit("claim.written")
        for job, result in zip(jobs, results, strict=True):
            job.claimed_at = first_requested_at if result is None else requested_at
            job.renew_until = job.claimed_at + self._lease.total_seconds()
        return dict(zip(jobs, own, strict=True))


def _claim_of(job: Job) -> Claim:
    assignment, task = job.assignment, job.task
    return Claim(
        delivery_id=task.delivery_id,
        project_id=task.project_id,
        attempt=task.attempt,
        provider_id=assignment.provider_id,
        retry_round=task.retry_round,
        reference=assignment.reference,
        routing_decision=assignment.routing_decision,
        sandbox=assignment.provider_id == SANDBOX_PROVIDER_ID,
        idempotent=job.idempotent,
        price=job.price,
        by_segment=job.by_segment,
    )
