"""The results of a run in the database: each message's state and the time of its event ``sent``."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from sluice.model.ids import min_id_at


@dataclass(frozen=True, slots=True)
class Settled:
    """One message; ``at``: the wall-clock time of its event ``sent``, or None."""

    number: int
    state: str
    attempts: int
    at: float | None


async def messages(dsn: str, run: int, since: float) -> list[Settled]:
    """Every delivery of a run; ``since``: the wall-clock time of its start."""
    first = min_id_at(datetime.fromtimestamp(since - 2, UTC))
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            """
            SELECT m.idempotency_key AS key, d.state, d.attempt_count, e.occurred_at
              FROM messages m
              JOIN deliveries d ON d.message_id = m.id AND d.id >= $1
              LEFT JOIN events e ON e.delivery_id = d.id AND e.type = 'sent' AND e.delivery_id >= $1
             WHERE m.id >= $1 AND starts_with(m.idempotency_key, $2)
            """,
            first,
            f"b{run:05d}-",
            timeout=120,
        )
    finally:
        await connection.close()
    return [
        Settled(
            int(row["key"][7:]),
            row["state"],
            row["attempt_count"],
            row["occurred_at"].timestamp() if row["occurred_at"] else None,
        )
        for row in rows
    ]


async def wait_until_settled(dsn: str, *, seconds: float) -> tuple[bool, float]:
    """Wait until nothing is due; whether that is so within ``seconds``, and the wall-clock time then."""
    connection = await asyncpg.connect(dsn)
    deadline = time.monotonic() + seconds
    try:
        while True:
            # Both are small: one is a partial index, the other empties itself.
            left = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM deliveries WHERE due_at IS NOT NULL)", timeout=60
            )
            if not left:
                return True, time.time()
            if time.monotonic() > deadline:
                return False, time.time()
            await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def create_database(server: str, name: str, template: str | None = None) -> str:
    """A new database beside the one of ``server``; its DSN."""
    await execute(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return with_database(server, name)


async def execute(dsn: str, statement: str) -> None:
    """Execute one statement on a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    head, _, _ = dsn.rpartition("/")
    return f"{head}/{name}"
