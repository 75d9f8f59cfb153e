"""Deletion of what is older than an installation keeps: whole table partitions, and rows outside of them.

Nothing that a delivery still needs is deleted: a partition with a delivery that is not settled stays, and attachments
stay for longer than any message can wait.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice.model.ids import created_at_of, min_id_at
from sluice.store import receipt_tokens
from sluice.store.db import Connection, Db, Pool
from sluice.store.partitions import TABLES, TABLES_BY_DELIVERY

log = structlog.get_logger()

MAX_WAIT = timedelta(days=62)
"""The longest time from a message to the end of its life: both its send time and its lifetime are limited."""
ERASED_CONTENT = "{}"
_LOCK_TIMEOUT = "2s"  # a DROP waits for running statements, and every later statement waits for the DROP
_BATCH = 2_000  # rows deleted or erased by one statement
_WEEK = re.compile(r"_(\d{4})w(\d{2})$")


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How long messages with all their rows, and messages captured by the sandbox, are kept; None: for ever."""

    messages: timedelta | None
    sandbox: timedelta | None


class RetentionSettings(BaseSettings):
    """For the processes that delete what is too old. The unit is days."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="ignore")

    retention_days: int = Field(
        92, ge=0, description="days for which messages and their events are kept, 0 for ever; whole weeks are deleted"
    )
    sandbox_retention_days: int = Field(
        14, ge=0, description="days for which messages captured by the sandbox are kept, 0 for ever"
    )

    def retention_limits(self) -> RetentionLimits:
        """The limits as times."""
        return RetentionLimits(_days(self.retention_days), _days(self.sandbox_retention_days))


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

    def __bool__(self) -> bool:
        counts = (self.rows, self.attachments, self.sandbox_messages, self.erased_messages, self.receipt_tokens)
        return bool(self.partitions or any(counts))


async def delete_expired(pool: Pool, limits: RetentionLimits, *, now: datetime) -> Deleted:
    """Delete and erase everything that is older than its limit; safe to repeat, and to run in several processes."""
    deleted = Deleted()
    if limits.messages is not None:
        cutoff = now - limits.messages
        for week in await expired_weeks(pool, cutoff):
            async with pool.acquire() as connection:
                await _drop_week(connection, week, deleted)
        deleted.rows = await _delete_strays(pool, cutoff)
        deleted.attachments = await _delete_attachments(pool, now - max(limits.messages, MAX_WAIT))
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
    deleted.erased_messages = await _erase_contents(pool, now=now)
    return deleted


async def expired_weeks(db: Db, cutoff: datetime) -> list[str]:
    """The weeks, such as ``2026w48``, whose partitions contain only ids from before ``cutoff``; oldest first."""
    rows = await db.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = ANY($1::regclass[])", list(TABLES)
    )
    weeks = {found[0][1:] for row in rows if (found := _WEEK.search(row["name"]))}
    return sorted(week for week in weeks if _end_of(week) <= cutoff)


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


def _end_of(week: str) -> datetime:
    year, number = week.split("w")
    return datetime.fromisocalendar(int(year), int(number), 1).replace(tzinfo=UTC) + timedelta(weeks=1)


async def _drop_week(connection: Connection, week: str, deleted: Deleted) -> None:
    """Drop the week's partitions of all tables in one transaction, so that no message loses a part of its rows."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        names = [f"{table}_{week}" for table in TABLES]
        existing = [name for name in names if await connection.fetchval("SELECT to_regclass($1)", name)]
        deliveries = f"deliveries_{week}"
        if deliveries in existing:
            await connection.execute(f"LOCK TABLE {deliveries} IN SHARE MODE")
            if await connection.fetchval(f"SELECT true FROM {deliveries} WHERE due_at IS NOT NULL LIMIT 1"):  # noqa: S608
                log.warning("partition_kept", week=week, reason="a delivery is not settled")
                deleted.kept.append(week)
                return
        for name in existing:
            await connection.execute(f"DROP TABLE {name}")
    deleted.partitions += existing


async def _delete_strays(pool: Pool, cutoff: datetime) -> int:
    """Rows of settled messages in the default partitions, where a clock that was wrong has put them."""
    limit = min_id_at(cutoff)
    rows = 0
    while True:
        settled = [
            row["message_id"]
            for row in await pool.fetch(
                """
                SELECT message_id FROM deliveries_default WHERE id < $1 GROUP BY message_id
                HAVING bool_and(due_at IS NULL) LIMIT $2
                """,
                limit,
                _BATCH,
            )
        ]
        if not settled:
            return rows
        rows += await _delete_messages(pool, settled)


async def _delete_messages(pool: Pool, messages: list[UUID]) -> int:
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            "DELETE FROM deliveries_default WHERE message_id = ANY($1::uuid[]) RETURNING id", messages
        )
        deliveries = [row["id"] for row in rows]
        for table in TABLES_BY_DELIVERY:
            await connection.execute(f"DELETE FROM {table} WHERE delivery_id = ANY($1::uuid[])", deliveries)  # noqa: S608
        await connection.execute("DELETE FROM messages WHERE id = ANY($1::uuid[])", messages)
    return len(deliveries)


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
        erased = await pool.fetch(
            """
            WITH due AS (
                SELECT m.id FROM messages m
                 WHERE m.project_id = $1 AND m.id >= $2 AND m.id < $3 AND m.content <> $4
                   AND NOT EXISTS (SELECT 1 FROM deliveries d
                                    WHERE d.message_id = m.id AND d.id >= $2 AND d.id < $3 AND d.due_at IS NOT NULL)
                 ORDER BY m.id LIMIT $5
            )
            UPDATE messages m SET content = $4, metadata = NULL FROM due
             WHERE m.id = due.id AND m.id >= $2 AND m.id < $3
            RETURNING m.id
            """,
            project_id,
            first,
            min_id_at(cutoff),
            ERASED_CONTENT,
            _BATCH,
        )
        total += len(erased)
        if len(erased) < _BATCH:
            break
    await pool.execute(
        "UPDATE receipts SET payload = ''"
        " WHERE project_id = $1 AND delivery_id >= $2 AND delivery_id < $3 AND payload <> ''",
        project_id,
        first,
        min_id_at(cutoff),
    )
    reached = cutoff if waiting is None else min(cutoff, created_at_of(waiting))
    await pool.execute(
        "UPDATE projects SET contents_erased_to = greatest(contents_erased_to, $2) WHERE id = $1", project_id, reached
    )
    return total
