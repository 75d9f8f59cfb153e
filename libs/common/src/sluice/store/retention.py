"""Deletion of what is older than an installation keeps: whole table partitions, and rows outside of them.

Nothing that a delivery still needs is deleted: a partition with a delivery that is not settled stays, and attachments
stay for longer than any message can wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice.model.ids import created_at_of, min_id_at
from sluice.store import (
    analytics,
    dead_letters,
    incidents,
    partitions,
    project_usage,
    provider_health,
    receipt_tokens,
)
from sluice.store.db import DATABASE_ERRORS, Db, Pool
from sluice.store.partitions import TABLES, week_start

log = structlog.get_logger()

MAX_WAIT = timedelta(days=62)
"""The longest time from a message to the end of its life: both its send time and its lifetime are limited."""
_RECEIPTS_END = timedelta(minutes=5)
"""How long after its limit a content is erased: receipts that were written with a payload before it have committed."""
_BATCH = 2_000  # rows deleted or erased by one statement


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How long messages with all their rows, messages captured by the sandbox, and daily rollups of analytics are kept;
    None: for ever.
    """

    messages: timedelta | None
    sandbox: timedelta | None
    analytics: timedelta | None = None


class RetentionSettings(BaseSettings):
    """For the processes that delete what is too old. The unit is days."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="ignore")

    retention_days: int = Field(
        92, ge=0, description="days for which messages and their events are kept, 0 for ever; whole weeks are deleted"
    )
    sandbox_retention_days: int = Field(
        14, ge=0, description="days for which messages captured by the sandbox are kept, 0 for ever"
    )
    analytics_retention_days: int = Field(
        730, ge=0, description="days for which daily analytics are kept, 0 for ever; hourly ones are kept for 35 days"
    )

    def retention_limits(self) -> RetentionLimits:
        """The limits as times."""
        return RetentionLimits(
            _days(self.retention_days), _days(self.sandbox_retention_days), _days(self.analytics_retention_days)
        )


def _days(count: int) -> timedelta | None:
    return timedelta(days=count) if count else None


@dataclass(slots=True)
class Deleted:
    """What one pass deleted; ``kept`` are old weeks with deliveries that are not settled.

    ``failed``: the steps that did not end, with the error; the next pass tries them again.
    """

    partitions: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    rows: int = 0  # outside of dropped partitions
    attachments: int = 0
    sandbox_messages: int = 0
    erased_messages: int = 0
    receipt_tokens: int = 0
    rollups: int = 0
    orphans: int = 0  # addresses and devices of deleted projects
    credentials: int = 0  # of deleted providers
    failed: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        counts = (
            self.rows,
            self.attachments,
            self.sandbox_messages,
            self.erased_messages,
            self.receipt_tokens,
            self.rollups,
            self.orphans,
            self.credentials,
        )
        return bool(self.partitions or any(counts))


async def delete_expired(pool: Pool, limits: RetentionLimits, *, now: datetime) -> Deleted:
    """Delete and erase everything that is older than its limit; safe to repeat, and to run in several processes.

    A step that fails is named in the result, and the others run: a backup that holds one table keeps nothing else.

    Raises:
        asyncpg.SyntaxOrAccessError: the schema, or the login's privileges, are not those of this program.
    """
    deleted = Deleted()
    if limits.messages is not None:
        await _delete_messages(pool, deleted, now=now, kept=limits.messages)
    if limits.sandbox is not None:
        with _reported(deleted, "sandbox messages"):
            deleted.sandbox_messages = await _delete_older(
                pool, "sandbox_messages", "reference", "captured_at", now - limits.sandbox
            )
    with _reported(deleted, "receipt tokens"):
        deleted.receipt_tokens = await _delete_older(
            pool, "receipt_tokens", "provider_id, token", "received_at", now - receipt_tokens.KEPT_FOR
        )
    with _reported(deleted, "dead letters"):
        await _delete_older(pool, "dead_letters", "id", "occurred_at", now - dead_letters.KEPT_FOR)
    with _reported(deleted, "deleted projects"):
        deleted.orphans = await _until_none(pool, "SELECT delete_of_deleted_projects($1)", _BATCH)
    with _reported(deleted, "usage of projects"):
        await project_usage.delete_old(pool, now.date())
    with _reported(deleted, "analytics"):
        deleted.rollups = await analytics.delete_old(pool, now=now, days_kept=limits.analytics)
    with _reported(deleted, "health of providers"):
        await provider_health.delete_old(pool, now=now)
    await _erase_contents(pool, deleted, now=now)
    return deleted


@contextmanager
def _reported(deleted: Deleted, step: str) -> Iterator[None]:
    """A failure of the block is an entry of ``deleted.failed``."""
    try:
        yield
    except asyncpg.SyntaxOrAccessError:
        raise
    except DATABASE_ERRORS as error:
        deleted.failed[step] = str(error) or type(error).__name__


async def _delete_messages(pool: Pool, deleted: Deleted, *, now: datetime, kept: timedelta) -> None:
    cutoff = now - kept
    with _reported(deleted, "weeks"):
        for week in await expired_weeks(pool, cutoff):
            with _reported(deleted, f"week {week}"):
                await _drop_week(pool, week, deleted)
    with _reported(deleted, "deliveries outside of weeks"):
        # Of settled messages in the default partitions, where a clock that was wrong has put them.
        deleted.rows = await _until_none(pool, "SELECT delete_strays($1, $2)", min_id_at(cutoff), _BATCH)
    with _reported(deleted, "incidents"):
        await incidents.delete_old(pool, before=cutoff)
    oldest = now - max(kept, MAX_WAIT)
    with _reported(deleted, "attachments"):
        deleted.attachments = await _delete_older(pool, "attachments", "project_id, sha256", "used_at", oldest)
    with _reported(deleted, "credentials of deleted providers"):
        # What they sent is deleted, and with it the attempts that a receipt could be about.
        deleted.credentials = await pool.fetchval("SELECT drop_credentials($1)", oldest)


async def expired_weeks(db: Db, cutoff: datetime) -> list[str]:
    """The weeks, such as ``2026w48``, whose partitions contain only ids from before ``cutoff``; oldest first."""
    return [week for week in await partitions.list_weeks(db) if week_start(week) + timedelta(weeks=1) <= cutoff]


@dataclass(frozen=True, slots=True)
class Week:
    """One week of all partitioned tables: its size in bytes with indexes, and PostgreSQL's estimate of its messages;
    None before the first one.
    """

    name: str
    size: int
    messages: int | None


async def list_weeks(db: Db) -> list[Week]:
    """The weeks with partitions, oldest first."""
    rows = await db.fetch(
        """
        SELECT substring(c.relname from '[0-9]{4}w[0-9]{2}$') AS name,
               sum(pg_total_relation_size(c.oid))::bigint AS size,
               nullif(max(c.reltuples) FILTER (WHERE c.relname LIKE 'messages%'), -1)::bigint AS messages
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = ANY($1::regclass[]) AND c.relname ~ '[0-9]{4}w[0-9]{2}$'
         GROUP BY 1 ORDER BY 1
        """,
        list(TABLES),
    )
    return [Week(row["name"], row["size"], row["messages"]) for row in rows]


async def _drop_week(pool: Pool, week: str, deleted: Deleted) -> None:
    dropped = await pool.fetchval("SELECT drop_week($1)", week)
    if dropped is None:
        log.warning("partition_kept", week=week, reason="a delivery is not settled")
        deleted.kept.append(week)
    else:
        deleted.partitions += dropped


async def _until_none(pool: Pool, statement: str, *arguments: object) -> int:
    """Repeat a function that deletes a bounded number of rows and returns it, until it deletes none; their number."""
    total = 0
    while count := await pool.fetchval(statement, *arguments):
        total += count
    return total


async def _delete_older(pool: Pool, table: str, key: str, column: str, cutoff: datetime) -> int:
    """Delete the rows whose ``column`` is before ``cutoff`` in batches; their number. ``key``: the primary key."""
    statement = f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {column} < $1 LIMIT $2)"  # noqa: S608
    total = 0
    while True:
        count = int((await pool.execute(statement, cutoff, _BATCH)).rpartition(" ")[2])
        total += count
        if count < _BATCH:
            return total


# -- contents ------------------------------------------------------------------------------------------------------


async def _erase_contents(pool: Pool, deleted: Deleted, *, now: datetime) -> None:
    """Erase contents of the projects that keep them for a shorter time than their messages."""
    with _reported(deleted, "contents"):
        for project in await pool.fetch(
            "SELECT id, content_retention_days, contents_erased_to FROM projects"
            " WHERE content_retention_days IS NOT NULL"
        ):
            cutoff = now - timedelta(days=project["content_retention_days"]) - _RECEIPTS_END
            with _reported(deleted, f"contents of project {project['id']}"):
                await _erase_project(pool, deleted, project["id"], project["contents_erased_to"], cutoff)


async def _erase_project(
    pool: Pool, deleted: Deleted, project_id: UUID, erased_to: datetime | None, cutoff: datetime
) -> None:
    """Erase what is finished; the next pass begins at the oldest message or bulk job that is not.

    Each batch is a transaction, and how far it came is stored: a pass that fails is continued by the next one.
    """
    end = min_id_at(cutoff)
    waiting = await pool.fetchval(
        """
        SELECT min(id::text)::uuid
          FROM (SELECT id FROM deliveries WHERE project_id = $1 AND due_at IS NOT NULL AND id < $2
                 UNION ALL
                SELECT id FROM bulk_jobs WHERE project_id = $1 AND finished_at IS NULL AND id < $2) AS unfinished
        """,
        project_id,
        end,
    )
    first = min_id_at(erased_to) if erased_to is not None else UUID(int=0)
    await _until_none(pool, "SELECT erase_bulk_contents($1, $2, $3, $4)", project_id, first, end, _BATCH)
    while first < end:
        [(erased, first)] = await pool.fetch(
            "SELECT erased, reached FROM erase_next_contents($1, $2, $3, $4)", project_id, first, end, _BATCH
        )
        deleted.erased_messages += erased
        await pool.execute(  # a row that does not change would be news to every cache of the configuration
            "UPDATE projects SET contents_erased_to = $2"
            " WHERE id = $1 AND (contents_erased_to IS NULL OR contents_erased_to < $2)",
            project_id,
            created_at_of(first if waiting is None else min(first, waiting)),
        )
