"""Makes messages of the rows of bulk jobs, a chunk at a time.

A chunk is locked, becomes messages through the one ingest, and gets its results, in one transaction: a process that
dies leaves it as it was, and another one takes it. Any number of gateways work on one job. Between two chunks a gateway
pauses for as long as the last one took and longer, and takes the project that has waited longest. A project that has
enough deliveries in the dispatch queue waits: its rows cost other projects nothing as long as they are rows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from math import inf
from typing import NamedTuple
from uuid import UUID

import orjson
import structlog

from gateway.auth.principal import KeyPrincipal
from gateway.bulk.messages import commands_of
from gateway.errors import ApiError, InternalError, Unavailable
from gateway.ingest.ingest import Accepted, MessageBatch, MessageIngest
from sluice.delivery.outbox import OUTBOX_RETRY_AFTER, OutboxPublisher
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import backlog, bulk_jobs, cancellation
from sluice.store.bulk_jobs import BulkJob, Chunk, ChunkResult, JobStatus, OpenJob
from sluice.store.db import UNAVAILABLE_ERRORS, Connection, Pool, rows_of
from sluice.store.projects import ProjectScope
from sluice.templates.renderer import Renderer

log = structlog.get_logger()

_POLL_INTERVAL = 1.0  # seconds between looks for jobs of other gateways
_RETRY_DELAY = 1.0  # seconds while PostgreSQL is unavailable
_LEAST_PAUSE = 0.02  # seconds
_PAUSE_FACTOR = 3.0  # times the duration of a chunk: a gateway spends a quarter of its time, at most, on bulk jobs
_MAX_ENQUEUED = 10  # deliveries of the project in the dispatch queue: each may delay one of another project
_MAX_WAIT = 1.0  # seconds that a project waits for its deliveries to leave the dispatch queue
_UPLOAD_TIMEOUT = timedelta(hours=6)
_CANCELLED = {"code": "CANCELLED", "message": "The job was cancelled before the row became a message.", "field": None}
_RETRYABLE: tuple[type[Exception], ...] = (*UNAVAILABLE_ERRORS, Unavailable)


class _Work(NamedTuple):
    """What follows from a chunk after its commit."""

    batch: MessageBatch | None = None
    cancelled: cancellation.Cancelled | None = None


class BulkExpander:
    """Works on the bulk jobs of all projects."""

    def __init__(self, pool: Pool, ingest: MessageIngest, outbox: OutboxPublisher) -> None:
        self.renderer = Renderer()
        self._pool = pool
        self._ingest = ingest
        self._outbox = outbox
        self._wake = asyncio.Event()
        self._served: dict[UUID, float] = {}  # project, and when a chunk of it was processed here last

    @asynccontextmanager
    async def running(self) -> AsyncIterator[BulkExpander]:
        """Work until the block ends."""
        task = supervised(self._run(), name="bulk")
        try:
            yield self
        finally:
            await cancel_and_wait(task)
            await self.renderer.close()

    def wake(self) -> None:
        """Look for jobs now."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            started = asyncio.get_running_loop().time()
            try:
                worked = await self.run_once()
            except _RETRYABLE as error:
                log.warning("bulk_retrying", error=type(error).__name__)
                await asyncio.sleep(_RETRY_DELAY)
                continue
            if worked:
                took = asyncio.get_running_loop().time() - started
                await asyncio.sleep(max(_LEAST_PAUSE, _PAUSE_FACTOR * took))
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _POLL_INTERVAL)
            self._wake.clear()

    async def run_once(self) -> bool:
        """Process one chunk of the project that has waited longest; false if there is no work."""
        jobs = await bulk_jobs.list_open_jobs(self._pool)
        if not jobs:
            await self._delete_abandoned()
            self._served.clear()
            return False
        enqueued = Counter[UUID]()
        for part, size in (await backlog.count_enqueued(self._pool)).items():
            enqueued[part.project_id] += size
        is_waiting = False
        # Beginning with the project that was served longest ago.
        for job in sorted(jobs, key=lambda job: self._served.get(job.project_id, 0.0)):
            if job.status is JobStatus.EXPANDING and self._must_wait(job, enqueued[job.project_id]):
                is_waiting = True
                continue
            self._served[job.project_id] = asyncio.get_running_loop().time()
            if await self._process(job):
                return True
        return is_waiting

    def _must_wait(self, job: OpenJob, enqueued: int) -> bool:
        """Whether the project has enough in the dispatch queue; not for ever, as other messages may keep it full."""
        served_at = self._served.get(job.project_id, -inf)
        return enqueued > _MAX_ENQUEUED and asyncio.get_running_loop().time() - served_at < _MAX_WAIT

    async def _process(self, open_job: OpenJob) -> bool:
        """Process a chunk of a job, or end it; false if other processes have all its chunks."""
        try:
            async with rows_of(self._pool, [open_job.project_id]) as db:
                job = await bulk_jobs.load_job(db, open_job.project_id, open_job.id)
                if job is None or job.status not in bulk_jobs.OPEN:
                    return False
                if await bulk_jobs.cancel_orphan(db, job.project_id, job.id):
                    return True
                work = await (self._cancel(db, job) if job.status is JobStatus.CANCELLING else self._expand(db, job))
                if work is None:
                    return await bulk_jobs.finish_job(db, job.project_id, job.id, now=utc_now()) is not None
                assert failpoints.hit("bulk.before_commit")
        except _RETRYABLE:
            raise
        except Exception:
            log.exception("bulk_chunk_failed", job=str(open_job.id))
            await self._reject(open_job)
            return True
        assert failpoints.hit("bulk.committed")
        if work.batch is not None:
            work.batch.publish()
        if work.cancelled is not None and work.cancelled.outbox_id is not None:
            self._outbox.publish_events(work.cancelled.outbox_id, work.cancelled.events)
        return True

    async def _expand(self, db: Connection, job: BulkJob) -> _Work | None:
        chunk = await bulk_jobs.claim_chunk(db, job.project_id, job.id)
        if chunk is None:
            return None
        principal = KeyPrincipal(job.created_by or job.id, job.project_id, job.sandbox)
        commands = await commands_of(orjson.loads(job.message), chunk.rows, self.renderer, job_id=job.id)
        batch = await self._ingest.prepare_batch(commands, principal, source="bulk")
        results = await batch.insert(db)
        await self._finish(db, job.project_id, job.id, chunk, results)
        return _Work(batch=batch)

    async def _finish(
        self, db: Connection, project_id: UUID, job_id: UUID, chunk: Chunk, results: Sequence[Accepted]
    ) -> None:
        errors = {
            at: {"code": one.code, "message": str(one), "field": one.field}
            for at, one in enumerate(results)
            if isinstance(one, ApiError)
        }
        metrics.series(metrics.BULK_ROWS, "rejected").inc(len(errors))
        metrics.series(metrics.BULK_ROWS, "accepted").inc(len(results) - len(errors))
        ids = [None if isinstance(one, ApiError) else one.message_id for one in results]
        await bulk_jobs.finish_chunk(
            db,
            project_id,
            job_id,
            chunk.number,
            ChunkResult(chunk.recipients, ids, errors),
            cancelled=False,
            now=utc_now(),
        )

    async def _reject(self, job: OpenJob) -> None:
        """Reject the rows of the chunk that failed: a fault of ours must not stop the others."""
        async with rows_of(self._pool, [job.project_id]) as db:
            chunk = await bulk_jobs.claim_chunk(db, job.project_id, job.id)
            if chunk is not None:
                fault = InternalError("The row could not be processed.")
                await self._finish(db, job.project_id, job.id, chunk, [fault] * len(chunk.rows))

    async def _cancel(self, db: Connection, job: BulkJob) -> _Work | None:
        chunk = await bulk_jobs.claim_chunk_to_cancel(db, job.project_id, job.id)
        if chunk is None:
            return None
        if chunk.message_ids is None:
            nothing = ChunkResult(
                chunk.recipients, [None] * len(chunk.rows), dict.fromkeys(range(len(chunk.rows)), _CANCELLED)
            )
            await bulk_jobs.finish_chunk(
                db, job.project_id, job.id, chunk.number, nothing, cancelled=True, now=utc_now()
            )
            return _Work()
        message_ids = [one for one in chunk.message_ids if one is not None]
        cancelled = None
        if message_ids:
            cancelled = await cancellation.cancel(
                db,
                ProjectScope(job.project_id, job.sandbox),
                message_ids,
                now=utc_now(),
                outbox_retry_after=OUTBOX_RETRY_AFTER,
            )
        await bulk_jobs.mark_chunk_cancelled(db, job.project_id, job.id, chunk.number)
        return _Work(cancelled=cancelled)

    async def _delete_abandoned(self) -> None:
        """Delete uploads whose process has died."""
        before = utc_now() - _UPLOAD_TIMEOUT
        for job in await bulk_jobs.list_abandoned_uploads(self._pool, before=before, limit=100):
            async with rows_of(self._pool, [job.project_id]) as db:
                await bulk_jobs.delete_upload(db, job.project_id, job.id)
