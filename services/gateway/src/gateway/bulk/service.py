"""Bulk jobs, for every API: an upload is stored in chunks, and :mod:`gateway.bulk.expander` makes messages of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from gateway.auth.principal import KeyPrincipal, Principal
from gateway.bulk.messages import check_message
from gateway.bulk.rows import Row
from gateway.bulk.upload import Upload
from gateway.errors import IdempotencyConflict, NotFound, PayloadTooLarge, ValidationFailed
from gateway.kit.body_cost import BodyBudget
from gateway.kit.chunks import chunks_of
from gateway.kit.public_ids import read_id
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model.ids import milliseconds_of, uuid7
from sluice.model.state import State
from sluice.runtime import failpoints
from sluice.runtime.clock import utc_now
from sluice.store import bulk_jobs, ingest
from sluice.store.bulk_jobs import BulkJob, NewChunk, RowResult
from sluice.store.db import UNAVAILABLE_ERRORS
from sluice.store.projects import ProjectScope

MAX_RECIPIENTS = 1_000_000
CHUNK_ROWS = 20
_STATEMENT_ROWS = 500  # rows that are stored together
_STATEMENT_BYTES = 512 << 10
_HELD = 2 << 20  # bytes of an upload that are in memory: its message, and the rows that are not stored yet
_uploads = BodyBudget(total=20 * _HELD, per_project=4 * _HELD)

_UNKNOWN = NotFound("The project has no such bulk job.")


class CreatedJob(NamedTuple):
    """The job of an upload. ``replayed``: it was created by an earlier one with the same idempotency key."""

    job: BulkJob
    replayed: bool


@dataclass
class _Chunker:
    """Collects rows until there are enough to store, and divides them into chunks."""

    rows: list[Row] = field(default_factory=list)
    size: int = 0
    number: int = 0
    total: int = 0
    recipients: int = 0

    def add(self, row: Row) -> bool:
        """Whether the rows are to be stored with this one."""
        self.rows.append(row)
        self.size += len(orjson.dumps(row))
        self.total += 1
        self.recipients += _recipients(row)
        if self.recipients > MAX_RECIPIENTS:
            raise PayloadTooLarge(f"recipients: a job may have at most {MAX_RECIPIENTS}", field="recipients")
        return len(self.rows) >= _STATEMENT_ROWS or self.size >= _STATEMENT_BYTES

    def take(self) -> list[NewChunk]:
        """The rows in chunks; the next ones begin with none."""
        first = self.total - len(self.rows) + 1
        chunks: list[NewChunk] = []
        for rows in chunks_of(self.rows, CHUNK_ROWS, _recipients):
            chunks.append(NewChunk(self.number + len(chunks), first, orjson.dumps(rows).decode()))
            first += len(rows)
        self.rows, self.size, self.number = [], 0, self.number + len(chunks)
        return chunks


def _recipients(row: Row) -> int:
    return len(row["to"]) if isinstance(row["to"], list) else 1


async def create_job(services: Services, principal: Principal, upload: Upload, *, key: str | None) -> CreatedJob:
    """Store an upload; its messages are sent once it is complete. ``key``: the idempotency key.

    Raises:
        ValidationFailed: the upload, its message or a row cannot be used; nothing of it is sent.
        PayloadTooLarge: the upload has too many bytes or recipients.
        IdempotencyConflict: the key was used for another upload.
        TooManyRequests: the project, or all together, have too many uploads under way.
        NotFound: the project was deleted meanwhile; nothing of the upload is sent.
        Unavailable: PostgreSQL does not answer; nothing of the upload is sent.
    """
    now = utc_now()
    job_id = uuid7(milliseconds_of(now))
    _uploads.hold(principal.project_id, _HELD)
    try:
        total = await _store(services, principal, upload, job_id)
        first = await _complete(services, principal, job_id, upload, key=key, total=total)
    except BaseException:
        await _delete(services, principal.project_id, job_id)
        raise
    finally:
        _uploads.release(principal.project_id, _HELD)
    if first != job_id:
        await _delete(services, principal.project_id, job_id)
    services.bulk.wake()
    return CreatedJob(await _find(services, principal.scope, first), replayed=first != job_id)


async def _store(services: Services, principal: Principal, upload: Upload, job_id: UUID) -> int:
    """Store the rows; returns their number."""
    chunk = _Chunker()
    async for row in upload.rows():
        if chunk.total == 0:
            await check_message(upload.message, services.bulk.renderer)
            await _begin(services, principal, upload, job_id)
        if chunk.add(row):
            await _add_chunks(services, principal.project_id, job_id, chunk.take())
    if chunk.rows:
        await _add_chunks(services, principal.project_id, job_id, chunk.take())
    if not chunk.total:
        raise ValidationFailed("recipients: there are none", field="recipients")
    return chunk.total


async def _begin(services: Services, principal: Principal, upload: Upload, job_id: UUID) -> None:
    created_by = principal.key_id if isinstance(principal, KeyPrincipal) else principal.user_id
    message = orjson.dumps(upload.message).decode()
    async with transaction(services.pool, principal.project_id) as db:
        await bulk_jobs.create_job(db, principal.scope, job_id, message=message, created_by=created_by, now=utc_now())


async def _add_chunks(services: Services, project_id: UUID, job_id: UUID, chunks: list[NewChunk]) -> None:
    async with transaction(services.pool, project_id) as db:
        await bulk_jobs.add_chunks(db, project_id, job_id, chunks)


async def _complete(
    services: Services, principal: Principal, job_id: UUID, upload: Upload, *, key: str | None, total: int
) -> UUID:
    """Let the job begin; returns its id, or that of the first job with the idempotency key."""
    assert failpoints.hit("bulk.before_complete")
    async with transaction(services.pool, principal.project_id) as db:
        if key is not None:
            owner, fingerprint = await ingest.claim_key(
                db, principal.scope, f"\x1fbulk/{key}", fingerprint=upload.fingerprint, owner=job_id, now=utc_now()
            )
            if fingerprint != upload.fingerprint:
                raise IdempotencyConflict("The idempotency key was used for another upload.")
            if owner != job_id:
                return owner
        if not await bulk_jobs.finish_upload(db, principal.project_id, job_id, recipients=total):
            raise NotFound("The project was deleted.")
    assert failpoints.hit("bulk.completed")
    return job_id


async def _delete(services: Services, project_id: UUID, job_id: UUID) -> None:
    with suppress(*UNAVAILABLE_ERRORS):  # the expander deletes it later
        async with transaction(services.pool, project_id) as db:
            await bulk_jobs.delete_upload(db, project_id, job_id)


async def find_job(services: Services, scope: ProjectScope, job_id: str) -> BulkJob:
    """The project's job with this public id.

    Raises:
        NotFound: the project has no such job.
        Unavailable: PostgreSQL does not answer.
    """
    return await _find(services, scope, read_id("blk", job_id, _UNKNOWN))


async def _find(services: Services, scope: ProjectScope, job_id: UUID) -> BulkJob:
    async with transaction(services.pool, scope.project_id) as db:
        found = await bulk_jobs.find_job(db, scope, job_id)
    if found is None:
        raise _UNKNOWN
    return found


async def list_jobs(services: Services, scope: ProjectScope, *, limit: int, before: UUID | None) -> list[BulkJob]:
    """The project's jobs, newest first.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, scope.project_id) as db:
        return await bulk_jobs.list_jobs(db, scope, limit=limit, before=before)


async def count_states(services: Services, job: BulkJob) -> dict[State, int]:
    """How many deliveries of the job are in each state.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, job.project_id) as db:
        return await bulk_jobs.count_states(db, job.project_id, job.id)


async def cancel_job(services: Services, scope: ProjectScope, job_id: str) -> BulkJob:
    """The job, of which no further message is sent. Those that no provider has are cancelled within moments.

    Raises:
        NotFound: the project has no such job.
        Unavailable: PostgreSQL does not answer.
    """
    decoded = read_id("blk", job_id, _UNKNOWN)
    assert failpoints.hit("bulk.before_cancel")
    async with transaction(services.pool, scope.project_id) as db:
        found = await bulk_jobs.cancel_job(db, scope, decoded)
    if not found:
        raise _UNKNOWN
    services.bulk.wake()
    return await _find(services, scope, decoded)


async def read_results(services: Services, job: BulkJob) -> AsyncIterator[list[RowResult]]:
    """What became of each row, a chunk at a time.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    number = 0
    while True:
        async with transaction(services.pool, job.project_id) as db:
            found = await bulk_jobs.read_results(db, job.project_id, job.id, number)
        if found is None:
            return
        yield found
        number += 1


def error_fields(error: Any) -> dict[str, str | None]:
    """An error as it is stored with its row."""
    return {"code": error.code, "message": str(error), "field": error.field}
