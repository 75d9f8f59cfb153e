"""Weekly table partitions of the tables that grow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from sluice.model.ids import min_id_at
from sluice.store.db import Db

log = structlog.get_logger()

TABLES = (
    "messages",
    "deliveries",
    "attempts",
    "events",
    "receipts",
    "receipt_ids",
    "webhook_deliveries",
    "webhook_attempts",
)
TABLES_BY_DELIVERY = tuple(table for table in TABLES if table not in ("messages", "deliveries"))
"""Those whose rows belong to a delivery, by ``delivery_id``."""
WEEKS_AHEAD = 2

# An updated row needs free space on its page; otherwise each update moves the row and adds to every index.
_FILLFACTOR = dict.fromkeys(TABLES, 100) | {"deliveries": 70, "attempts": 70, "webhook_deliveries": 70}


async def ensure(db: Db, now: datetime) -> list[str]:
    """Create the partitions of this week and the next ones, and the default one; returns the created names.

    Not inside a transaction: a partition that cannot be created does not prevent the others.
    """
    created = []
    for table in TABLES:
        existing = await _existing(db, table)
        for name, bounds in _wanted(table, now):
            if name not in existing and await _create(db, name, table, bounds):
                created.append(name)
    return created


async def _create(db: Db, name: str, table: str, bounds: str) -> bool:
    try:
        await db.execute(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} {bounds} WITH (fillfactor = {_FILLFACTOR[table]})"
        )
    except (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError):
        return False  # another process created it
    except asyncpg.CheckViolationError:
        # A process whose clock is ahead has inserted rows of that week into the default partition. They stay there.
        log.warning("partition_not_created", partition=name)
        return False
    return True


async def _existing(db: Db, table: str) -> set[str]:
    rows = await db.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::text::regclass", table
    )
    return {row["name"] for row in rows}


def _wanted(table: str, now: datetime) -> list[tuple[str, str]]:
    monday = (now - timedelta(days=now.weekday())).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    weeks = [monday + timedelta(weeks=ahead) for ahead in range(WEEKS_AHEAD + 1)]
    named = [
        (
            f"{table}_{start:%G}w{start:%V}",
            f"FOR VALUES FROM ('{min_id_at(start)}') TO ('{min_id_at(start + timedelta(weeks=1))}')",
        )
        for start in weeks
    ]
    return [*named, (f"{table}_default", "DEFAULT")]
