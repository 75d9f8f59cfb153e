"""Bulk jobs: uploads of many recipients, in chunks, each of which becomes messages in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.ids import millisecond_range
from sluice.model.state import State, message_state
from sluice.store import projects
from sluice.store.db import Db
from sluice.store.projects import ProjectScope


class JobStatus(StrEnum):
    """What a bulk job is doing."""

    UPLOADING = "UPLOADING"  # its rows are not complete: nothing is sent
    EXPANDING = "EXPANDING"  # its rows become messages
    COMPLETED = "COMPLETED"  # every row is a message or was rejected
    CANCELLING = "CANCELLING"  # what no provider has is being cancelled
    CANCELLED = "CANCELLED"


OPEN = (JobStatus.EXPANDING, JobStatus.CANCELLING)
"""A process works on jobs with these."""


@dataclass(frozen=True, slots=True)
class BulkJob:
    """A bulk job. ``recipients``: the rows of its upload; ``accepted`` and ``rejected``: those that were processed."""

    id: UUID
    project_id: UUID
    sandbox: bool
    status: JobStatus
    message: str
    recipients: int
    accepted: int
    rejected: int
    created_by: UUID | None
    created_at: datetime
    served_at: datetime
    finished_at: datetime | None


class OpenJob(NamedTuple):
    """A job that has work left."""

    id: UUID
    project_id: UUID
    status: JobStatus
    served_at: datetime


class Chunk(NamedTuple):
    """A locked chunk: its rows as JSON, or the messages that it became."""

    number: int
    first_row: int
    rows: list[dict[str, Any]]
    message_ids: list[UUID | None] | None

    @property
    def recipients(self) -> list[str]:
        """The recipient of each row."""
        return [_recipient(row) for row in self.rows]


class NewChunk(NamedTuple):
    """Rows of an upload, as JSON; ``first_row``: the number of the first one, from 1."""

    number: int
    first_row: int
    rows: str


class ChunkResult(NamedTuple):
    """What became of each row of a chunk. ``errors``: by position of the row."""

    recipients: Sequence[str]
    message_ids: Sequence[UUID | None]
    errors: Mapping[int, Mapping[str, str | None]]


class RowResult(NamedTuple):
    """One row of an upload, from 1. Without a status it was not processed yet."""

    number: int
    recipient: str | None
    message_id: UUID | None
    status: State | None
    error: Mapping[str, str | None] | None


_COLUMNS = (
    "id, project_id, sandbox, status, message, recipients, accepted, rejected, created_by, created_at, served_at,"
    " finished_at"
)


def _job(row: Any) -> BulkJob:
    return BulkJob(**dict(row) | {"status": JobStatus(row["status"])})


async def create_job(
    db: Db, scope: ProjectScope, job_id: UUID, *, message: str, created_by: UUID | None, now: datetime
) -> None:
    """Create a job without rows. ``message``: the JSON of the fields that all messages have."""
    await db.execute(
        "INSERT INTO bulk_jobs"
        " (id, project_id, sandbox, status, message, recipients, created_by, created_at, served_at)"
        " VALUES ($1, $2, $3, 'UPLOADING', $4, 0, $5, $6, $6)",
        job_id,
        *scope,
        message,
        created_by,
        now,
    )


async def add_chunks(db: Db, project_id: UUID, job_id: UUID, chunks: Sequence[NewChunk]) -> None:
    """Store rows of an upload."""
    await db.execute(
        """
        INSERT INTO bulk_chunks (job_id, number, project_id, first_row, rows)
        SELECT $1, n.number, $2, n.first_row, n.rows
          FROM unnest($3::int[], $4::int[], $5::text[]) AS n (number, first_row, rows)
        """,
        job_id,
        project_id,
        *map(list, zip(*chunks, strict=True)),
    )


async def finish_upload(db: Db, project_id: UUID, job_id: UUID, *, recipients: int) -> bool:
    """The upload is complete: its rows become messages from now on; false if the project was deleted meanwhile.

    The project's row is locked: a deletion at the same time cancels the job, or is seen here.
    """
    status = await db.execute(
        f"""
        WITH project AS ({projects.live("ARRAY[$2::uuid]")})
        UPDATE bulk_jobs j SET status = 'EXPANDING', recipients = $3
          FROM project p
         WHERE j.id = $1 AND j.project_id = p.id AND j.status = 'UPLOADING'
        """,  # noqa: S608  a constant
        job_id,
        project_id,
        recipients,
    )
    return status == "UPDATE 1"


async def delete_upload(db: Db, project_id: UUID, job_id: UUID) -> None:
    """Delete a job whose upload has failed."""
    await db.execute(
        """
        WITH gone AS (DELETE FROM bulk_jobs WHERE id = $1 AND project_id = $2 AND status = 'UPLOADING' RETURNING id)
        DELETE FROM bulk_chunks WHERE job_id IN (SELECT id FROM gone) AND project_id = $2
        """,
        job_id,
        project_id,
    )


async def find_job(db: Db, scope: ProjectScope, job_id: UUID) -> BulkJob | None:
    """The job; None if the project has none with this id whose upload is complete."""
    row = await db.fetchrow(
        f"SELECT {_COLUMNS} FROM bulk_jobs WHERE id = $1 AND project_id = $2 AND sandbox = $3"  # noqa: S608
        " AND status <> 'UPLOADING'",
        job_id,
        *scope,
    )
    return None if row is None else _job(row)


async def list_jobs(db: Db, scope: ProjectScope, *, limit: int, before: UUID | None) -> list[BulkJob]:
    """The newest jobs of the project, those older than the id ``before``."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM bulk_jobs
         WHERE project_id = $1 AND sandbox = $2 AND status <> 'UPLOADING' AND ($3::uuid IS NULL OR id < $3)
         ORDER BY id DESC LIMIT $4
        """,  # noqa: S608
        *scope,
        before,
        limit,
    )
    return [_job(row) for row in rows]


async def list_open_jobs(db: Db) -> list[OpenJob]:
    """The oldest job of each project that has work left.

    One step of the index leads from a project to the next one: its other jobs, which may be thousands, are not read.
    """
    rows = await db.fetch(
        """
        WITH RECURSIVE oldest AS (
            (SELECT id, project_id, status, served_at FROM bulk_jobs
              WHERE status IN ('EXPANDING', 'CANCELLING')
              ORDER BY project_id, id LIMIT 1)
            UNION ALL
            SELECT another.*
              FROM oldest
             CROSS JOIN LATERAL (
                   SELECT id, project_id, status, served_at FROM bulk_jobs
                    WHERE status IN ('EXPANDING', 'CANCELLING') AND project_id > oldest.project_id
                    ORDER BY project_id, id LIMIT 1) AS another
        )
        SELECT id, project_id, status, served_at FROM oldest
        """
    )
    return [OpenJob(**dict(row) | {"status": JobStatus(row["status"])}) for row in rows]


async def list_abandoned_uploads(db: Db, *, before: datetime, limit: int) -> list[OpenJob]:
    """Uploads that began before a time and never ended, of all projects."""
    rows = await db.fetch(
        "SELECT id, project_id, status, served_at FROM bulk_jobs"
        " WHERE finished_at IS NULL AND status = 'UPLOADING' AND created_at < $1 ORDER BY id LIMIT $2",
        before,
        limit,
    )
    return [OpenJob(**dict(row) | {"status": JobStatus(row["status"])}) for row in rows]


async def load_job(db: Db, project_id: UUID, job_id: UUID) -> BulkJob | None:
    """The job, whatever its status, test or live."""
    row = await db.fetchrow(
        f"SELECT {_COLUMNS} FROM bulk_jobs WHERE id = $1 AND project_id = $2",  # noqa: S608
        job_id,
        project_id,
    )
    return None if row is None else _job(row)


async def claim_chunk(db: Db, project_id: UUID, job_id: UUID) -> Chunk | None:
    """Lock the first chunk that was not processed and that no other process works on; None if there is none.

    The lock ends with the transaction of ``db``: a process that dies leaves the chunk as it was.
    """
    row = await db.fetchrow(
        """
        SELECT number, first_row, rows, message_ids FROM bulk_chunks
         WHERE job_id = $1 AND project_id = $2 AND message_ids IS NULL
         ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
        job_id,
        project_id,
    )
    return None if row is None else _chunk(row)


async def claim_chunk_to_cancel(db: Db, project_id: UUID, job_id: UUID) -> Chunk | None:
    """As :func:`claim_chunk`, the first chunk that was not cancelled."""
    row = await db.fetchrow(
        """
        SELECT number, first_row, rows, message_ids FROM bulk_chunks
         WHERE job_id = $1 AND project_id = $2 AND NOT is_cancelled
         ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
        job_id,
        project_id,
    )
    return None if row is None else _chunk(row)


def _chunk(row: Any) -> Chunk:
    return Chunk(row["number"], row["first_row"], json.loads(row["rows"] or "[]"), row["message_ids"])


async def finish_chunk(
    db: Db, project_id: UUID, job_id: UUID, number: int, result: ChunkResult, *, cancelled: bool, now: datetime
) -> None:
    """Write what became of a chunk that the transaction of ``db`` has locked."""
    accepted = sum(message_id is not None for message_id in result.message_ids)
    await db.execute(
        """
        WITH chunk AS (
            UPDATE bulk_chunks
               SET rows = '', recipients = $4, message_ids = $5, errors = $6, is_cancelled = $7
             WHERE job_id = $1 AND project_id = $2 AND number = $3
        )
        UPDATE bulk_jobs SET accepted = accepted + $8, rejected = rejected + $9, served_at = $10
         WHERE id = $1 AND project_id = $2
        """,
        job_id,
        project_id,
        number,
        list(result.recipients),
        list(result.message_ids),
        json.dumps(result.errors),
        cancelled,
        accepted,
        len(result.message_ids) - accepted,
        now,
    )


async def mark_chunk_cancelled(db: Db, project_id: UUID, job_id: UUID, number: int) -> None:
    """The messages of a chunk that could be cancelled are."""
    await db.execute(
        "UPDATE bulk_chunks SET is_cancelled = true WHERE job_id = $1 AND project_id = $2 AND number = $3",
        job_id,
        project_id,
        number,
    )


async def finish_job(db: Db, project_id: UUID, job_id: UUID, *, now: datetime) -> JobStatus | None:
    """End a job without a chunk to process, also in another process; None if it has one, or was not open."""
    status = await db.fetchval(
        """
        UPDATE bulk_jobs j
           SET status = CASE status WHEN 'EXPANDING' THEN 'COMPLETED' ELSE 'CANCELLED' END, finished_at = $3
         WHERE id = $1 AND project_id = $2 AND finished_at IS NULL
           AND (status = 'EXPANDING' AND NOT EXISTS (
                    SELECT FROM bulk_chunks WHERE job_id = $1 AND project_id = $2 AND message_ids IS NULL)
                OR status = 'CANCELLING' AND NOT EXISTS (
                    SELECT FROM bulk_chunks WHERE job_id = $1 AND project_id = $2 AND NOT is_cancelled))
        RETURNING status
        """,
        job_id,
        project_id,
        now,
    )
    return None if status is None else JobStatus(status)


async def cancel_job(db: Db, scope: ProjectScope, job_id: UUID) -> bool:
    """Begin to cancel a job; false if the project has none with this id. One that is cancelled stays so."""
    found: bool = await db.fetchval(
        """
        WITH changed AS (
            UPDATE bulk_jobs SET status = 'CANCELLING', finished_at = NULL
             WHERE id = $1 AND project_id = $2 AND sandbox = $3 AND status IN ('EXPANDING', 'COMPLETED')
            RETURNING id
        )
        SELECT EXISTS (SELECT FROM changed) OR EXISTS (
               SELECT FROM bulk_jobs WHERE id = $1 AND project_id = $2 AND sandbox = $3 AND status <> 'UPLOADING')
        """,
        job_id,
        *scope,
    )
    return found


async def cancel_orphan(db: Db, project_id: UUID, job_id: UUID) -> bool:
    """Begin to cancel a job whose project is deleted; false if it is not."""
    status = await db.execute(
        "UPDATE bulk_jobs SET status = 'CANCELLING' WHERE id = $1 AND project_id = $2 AND status = 'EXPANDING'"
        " AND NOT EXISTS (SELECT FROM projects WHERE id = $2 AND deleted_at IS NULL)",
        job_id,
        project_id,
    )
    return status == "UPDATE 1"


async def count_states(db: Db, project_id: UUID, job_id: UUID) -> dict[State, int]:
    """How many deliveries of the job's messages are in each state.

    Each chunk's are counted by themselves, in a subquery with a GROUP BY: row-level security keeps a computed bound
    from the index, unless the planner cannot make the subquery a part of the whole statement.
    """
    rows = await db.fetch(
        """
        SELECT d.state, sum(d.number)::bigint AS number
          FROM bulk_chunks c
         CROSS JOIN LATERAL (
               SELECT state, count(*) AS number
                 FROM deliveries JOIN unnest(c.message_ids) AS accepted ON accepted = message_id
                WHERE id BETWEEN (SELECT (substr(min(i::text), 1, 13) || '-0000-0000-000000000000')::uuid
                                    FROM unnest(c.message_ids) i)
                             AND (SELECT (substr(max(i::text), 1, 13) || '-ffff-ffff-ffffffffffff')::uuid
                                    FROM unnest(c.message_ids) i)
                GROUP BY state) AS d
         WHERE c.job_id = $1 AND c.project_id = $2 AND c.message_ids IS NOT NULL
         GROUP BY d.state
        """,
        job_id,
        project_id,
    )
    return {State(row["state"]): row["number"] for row in rows}


async def read_results(db: Db, project_id: UUID, job_id: UUID, number: int) -> list[RowResult] | None:
    """What became of the rows of one chunk; None if there is no such chunk."""
    row = await db.fetchrow(
        "SELECT first_row, rows, recipients, message_ids, errors FROM bulk_chunks"
        " WHERE job_id = $1 AND project_id = $2 AND number = $3",
        job_id,
        project_id,
        number,
    )
    if row is None:
        return None
    if row["message_ids"] is None:
        waiting = [_recipient(one) for one in json.loads(row["rows"] or "[]")]
        return [RowResult(row["first_row"] + at, who, None, None, None) for at, who in enumerate(waiting)]
    states = await _states(db, [one for one in row["message_ids"] if one is not None])
    errors = json.loads(row["errors"] or "{}")
    recipients = row["recipients"] or [None] * len(row["message_ids"])
    return [
        RowResult(row["first_row"] + at, recipient, message_id, states.get(message_id), errors.get(str(at)))
        for at, (recipient, message_id) in enumerate(zip(recipients, row["message_ids"], strict=True))
    ]


def _recipient(row: Mapping[str, Any]) -> str:
    to = row["to"]
    return to if isinstance(to, str) else ", ".join(to)


async def _states(db: Db, message_ids: Sequence[UUID]) -> dict[UUID | None, State]:
    if not message_ids:
        return {}
    rows = await db.fetch(
        "SELECT message_id, array_agg(state) AS states FROM deliveries"
        " WHERE id BETWEEN $1 AND $2 AND message_id = ANY($3::uuid[]) GROUP BY message_id",
        millisecond_range(min(message_ids))[0],
        millisecond_range(max(message_ids))[1],
        list(message_ids),
    )
    return {row["message_id"]: message_state(State(one) for one in row["states"]) for row in rows}
