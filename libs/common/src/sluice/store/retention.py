"""Deletion of what is older than an installation keeps: whole table partitions, and rows outside of them.

Nothing that a delivery still needs is deleted: a partition with a delivery that is not settled stays, and attachments
stay for longer than any message can wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

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
from sluice.store.db import Db, Pool
from sluice.store.partitions import TABLES, week_start

log = structlog.get_logger()

MAX_WAIT = timedelta(days=62)
"""The longest time from a message to the end of its life: both its send time and its lifetime are limited."""
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
    """What one pass deleted; ``kept`` are old weeks with deliveries that are not settled."""

    partitions: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    rows: int = 0  # outside of dropped partitions
    attachments: int = 0
    sandbox_messages: int = 0
    erased_messages: int = 0
    receipt_tokens: int = 0
    rollups: int = 0
    credentials: int = 0  # of deleted providers

    def __bool__(self) -> bool:
        counts = (
            self.rows,
            self.attachments,
            self.sandbox_messages,
            self.erased_messages,
            self.receipt_tokens,
            self.rollups,
            self.credentials,
        )
        return bool(self.partitions or any(counts))


async def delete_expired(pool: Pool, limits: RetentionLimits, *, now: datetime) -> Deleted:
    """Delete and erase everything that is older than its limit; safe to repeat, and to run in several processes."""
    deleted = Deleted()
    if limits.messages is not None:
        cutoff = now - limits.messages
        for week in await expired_weeks(pool, cutoff):
            await _drop_week(pool, week, deleted)
        deleted.rows = await _delete_strays(pool, cutoff)
        await incidents.delete_old(pool, before=cutoff)
        oldest = now - max(limits.messages, MAX_WAIT)
        deleted.attachments = await _delete_attachments(pool, oldest)
        # What they sent is deleted, and with it the attempts that a receipt could be about.
        deleted.credentials = await pool.fetchval("SELECT drop_credentials($1)", oldest)
    if limits.sandbox is not None:
        deleted.sandbox_messages = await _in_batches(
            pool,
            """
            DELETE FROM sandbox_messages WHERE reference IN (
                SELECT reference FROM sandbox_messages WHERE captured_at < $1 LIMIT $2)
            """,
            now - limits.sandbox,
        )
    deleted.receipt_tokens = await _in_batches(
        pool,
        """
        DELETE FROM receipt_tokens WHERE (provider_id, token) IN (
            SELECT provider_id, token FROM receipt_tokens WHERE received_at < $1 LIMIT $2)
        """,
        now - receipt_tokens.KEPT_FOR,
    )
    await _in_batches(
        pool,
        """
        DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE occurred_at < $1 LIMIT $2)
        """,
        now - dead_letters.KEPT_FOR,
    )
    await project_usage.delete_old(pool, now.date())
    deleted.rollups = await analytics.delete_old(pool, now=now, days_kept=limits.analytics)
    await provider_health.delete_old(pool, now=now)
    deleted.erased_messages = await _erase_contents(pool, now=now)
    return deleted


async def expired_weeks(db: Db, cutoff: datetime) -> list[str]:
    """The weeks, such as ``2026w48``, whose partitions contain only ids from before ``cutoff``; oldest first."""
    return [week for week in await partitions.list_weeks(db) if week_start(week) + timedelta(weeks=1) <= cutoff]


@dataclass(frozen=True, slots=True)
class Week:
    """One week of all partitioned tables: its size in bytes with indexes, and PostgreSQL's estimate of its messages."""

    name: str
    size: int
    messages: int


async def list_weeks(db: Db) -> list[Week]:
    """The weeks with partitions, oldest first."""
    rows = await db.fetch(
        """
        SELECT substring(c.relname from '[0-9]{4}w[0-9]{2}$') AS name,
               sum(pg_total_relation_size(c.oid))::bigint AS size,
               greatest(0, max(c.reltuples) FILTER (WHERE c.relname LIKE 'messages%'))::bigint AS messages
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = ANY($1::regclass[]) AND c.relname ~ '[0-9]{4}w[0-9]{2}$'
         GROUP BY 1 ORDER BY 1
        """,
        list(TABLES),
    )
    return [Week(row["name"], row["size"], row["messages"] or 0) for row in rows]


async def _drop_week(pool: Pool, week: str, deleted: Deleted) -> None:
    dropped = await pool.fetchval("SELECT drop_week($1)", week)
    if dropped is None:
        log.warning("partition_kept", week=week, reason="a delivery is not settled")
        deleted.kept.append(week)
    else:
        deleted.partitions += dropped


async def _delete_strays(pool: Pool, cutoff: datetime) -> int:
    """Rows of settled messages in the default partitions, where a clock that was wrong has put them."""
    total = 0
    while count := await pool.fetchval("SELECT delete_strays($1, $2)", min_id_at(cutoff), _BATCH):
        total += count
    return total


async def _delete_attachments(pool: Pool, cutoff: datetime) -> int:
    return await _in_batches(
        pool,
        """
        DELETE FROM attachments WHERE (project_id, sha256) IN (
            SELECT project_id, sha256 FROM attachments WHERE used_at < $1 LIMIT $2)
        """,
        cutoff,
    )


async def _in_batches(pool: Pool, statement: str, cutoff: datetime) -> int:
    total = 0
    while True:
        count = int((await pool.execute(statement, cutoff, _BATCH)).rpartition(" ")[2])
        total += count
        if count < _BATCH:
            return total


# -- contents ------------------------------------------------------------------------------------------------------


async def _erase_contents(pool: Pool, *, now: datetime) -> int:
    """Erase contents of the projects that keep them for a shorter time than their messages."""
    projects = await pool.fetch(
        "SELECT id, content_retention_days, contents_erased_to FROM projects WHERE content_retention_days IS NOT NULL"
    )
    total = 0
    for project in projects:
        cutoff = now - timedelta(days=project["content_retention_days"])
        total += await _erase_project(pool, project["id"], project["contents_erased_to"], cutoff)
    return total


async def _erase_project(pool: Pool, project_id: UUID, erased_to: datetime | None, cutoff: datetime) -> int:
    """Erase what is settled; the next pass begins at the oldest message that is not."""
    waiting = await pool.fetchval(
        "SELECT min(id::text)::uuid FROM deliveries WHERE project_id = $1 AND due_at IS NOT NULL AND id < $2",
        project_id,
        min_id_at(cutoff),
    )
    first = min_id_at(erased_to) if erased_to is not None else UUID(int=0)
    total = 0
    while True:
        erased: int = await pool.fetchval(
            "SELECT erase_contents($1, $2, $3, $4)", project_id, first, min_id_at(cutoff), _BATCH
        )
        total += erased
        if erased < _BATCH:
            break
    reached = cutoff if waiting is None else min(cutoff, created_at_of(waiting))
    await pool.execute(
        "UPDATE projects SET contents_erased_to = greatest(contents_erased_to, $2) WHERE id = $1", project_id, reached
    )
    return total
