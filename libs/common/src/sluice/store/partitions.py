"""Weekly table partitions of the tables that grow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import structlog

from sluice.model.ids import min_id_at
from sluice.store.db import Db

log = structlog.get_logger()

TABLES = (
    "messages",
    "message_terms",
    "deliveries",
    "attempts",
    "events",
    "receipts",
    "receipt_ids",
    "webhook_deliveries",
    "webhook_attempts",
    "bulk_jobs",
    "bulk_chunks",
    "analytics_progress",
    "incident_deliveries",
)
WEEKS_AHEAD = 2

# An updated row needs free space on its page; otherwise each update moves the row and adds to every index.
_FILLFACTOR = dict.fromkeys(TABLES, 100) | {
    "deliveries": 70,
    "attempts": 70,
    "webhook_deliveries": 70,
    "analytics_progress": 50,
}


async def ensure(db: Db, now: datetime) -> list[str]:
    """Create the partitions of this week and the next ones, and the default one; returns the created names.

    Not inside a transaction: a partition that cannot be created does not prevent the others.
    """
    created = []
    for table in TABLES:
        existing = await _existing(db, table)
        for suffix, first, end in _wanted(now):
            if f"{table}_{suffix}" not in existing and await _create(db, table, suffix, first, end):
                created.append(f"{table}_{suffix}")
    return created


async def _create(db: Db, table: str, suffix: str, first: UUID | None, end: UUID | None) -> bool:
    try:
        await db.execute("SELECT create_partition($1, $2, $3, $4, $5)", table, suffix, first, end, _FILLFACTOR[table])
    except (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError, asyncpg.InvalidObjectDefinitionError):
        return False  # another process created it
    except asyncpg.CheckViolationError:
        # A process whose clock is ahead has inserted rows of that week into the default partition. They stay there.
        log.warning("partition_not_created", partition=f"{table}_{suffix}")
        return False
    return True


async def _existing(db: Db, table: str) -> set[str]:
    rows = await db.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::text::regclass", table
    )
    return {row["name"] for row in rows}


async def list_weeks(db: Db) -> list[str]:
    """The weeks with partitions, such as ``2026w48``, oldest first."""
    rows = await db.fetch(
        "SELECT DISTINCT substring(inhrelid::regclass::text from '[0-9]{4}w[0-9]{2}$') AS week FROM pg_inherits"
        " WHERE inhparent = ANY($1::regclass[])",
        list(TABLES),
    )
    return sorted(row["week"] for row in rows if row["week"] is not None)


def week_start(week: str) -> datetime:
    """The first moment of a week such as ``2026w48``."""
    year, number = week.split("w")
    return datetime.fromisocalendar(int(year), int(number), 1).replace(tzinfo=UTC)


def week_of(when: datetime) -> str:
    """The week with this time, which is in UTC, such as ``2026w48``."""
    return f"{when:%G}w{when:%V}"


def _wanted(now: datetime) -> list[tuple[str, UUID | None, UUID | None]]:
    """The suffix of each partition's name, its first id, and the first id after it."""
    monday = (now - timedelta(days=now.weekday())).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    weeks = [monday + timedelta(weeks=ahead) for ahead in range(WEEKS_AHEAD + 1)]
    named = [(week_of(start), min_id_at(start), min_id_at(start + timedelta(weeks=1))) for start in weeks]
    return [*named, ("default", None, None)]
