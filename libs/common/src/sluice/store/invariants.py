"""The invariants as queries over the database, in windows that block no other statement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from sluice.model.ids import millisecond_range
from sluice.model.outcome import DEFINITE_FAILURES
from sluice.model.state import RANKED_STATES
from sluice.store.db import Db, connect

WINDOW = 20_000  # deliveries checked by one statement

_LAST = UUID(int=(1 << 128) - 1)


@asynccontextmanager
async def verification_connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for these queries.

    Each joins thousands of rows with thousands. With the outdated statistics of tables that grow fast the planner
    expects few rows and chooses nested loops, with which a window took half a minute.
    """
    connection = await connect(
        dsn, timeout=10.0, server_settings={"enable_nestloop": "off", "work_mem": "64MB", "jit": "off"}
    )
    try:
        yield connection
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Window:
    """A range of ids, both ends included. A message and its deliveries are in the same window."""

    first: UUID
    last: UUID


async def id_windows(db: Db) -> AsyncIterator[Window]:
    """All deliveries in windows, oldest first."""
    first = UUID(int=0)
    while True:
        found = await db.fetchval(
            "SELECT id FROM deliveries WHERE id >= $1 ORDER BY id OFFSET $2 LIMIT 1", first, WINDOW
        )
        # A message and its deliveries share a millisecond, so that a window ends with one.
        last = _LAST if found is None else millisecond_range(found)[1]
        yield Window(first, last)
        if found is None:
            return
        first = UUID(int=last.int + 1)


@dataclass(frozen=True, slots=True)
class WindowReport:
    """The totals of a window, and each delivery or message that violates an invariant."""

    deliveries: int
    attempts: int
    unknown_attempts: int
    unsettled: int
    states: dict[str, int]
    violations: list[dict[str, Any]]


async def check_window(db: Db, window: Window) -> WindowReport:
    """Check I1, I2, I3 and I5 for the deliveries of a window, in one snapshot."""
    rows = await db.fetch(
        """
        WITH d AS (
            SELECT * FROM deliveries WHERE id BETWEEN $1 AND $2
        ), e AS (
            SELECT delivery_id, count(*) AS n, max(sequence) AS top, max(array_position($3::text[], state)) AS rank
              FROM events WHERE delivery_id BETWEEN $1 AND $2 GROUP BY delivery_id
        ), a AS (
            SELECT delivery_id, count(*) AS n, max(number) AS top,
                   count(*) FILTER (WHERE outcome IS NULL) AS open,
                   count(*) FILTER (WHERE outcome = ANY($4::text[])) AS definite,
                   count(*) FILTER (WHERE outcome = 'unknown') AS unknown_attempts,
                   min(number) FILTER (WHERE outcome = 'unknown') AS first_unknown
              FROM attempts WHERE delivery_id BETWEEN $1 AND $2 GROUP BY delivery_id
        ), m AS (
            SELECT id FROM messages WHERE id BETWEEN $1 AND $2
        ), checked AS (  -- each delivery, or message without one, with the invariants that it violates
            SELECT coalesce(d.id, m.id) AS id, d.message_id, d.state, d.attempt_count, d.unknown_attempts,
                   array_remove(ARRAY[
                       CASE WHEN d.id IS NULL THEN 'I1: the message has no delivery' END,
                       CASE WHEN m.id IS NULL THEN 'I1: the delivery has no message' END,
                       CASE WHEN d.state IN ('QUEUED', 'SENDING') AND d.due_at IS NULL
                            THEN 'I1: not settled and never due' END,
                       CASE WHEN d.state NOT IN ('QUEUED', 'SENDING') AND NOT d.in_flight AND d.due_at IS NOT NULL
                            THEN 'I1: settled and still due' END,
                       CASE WHEN coalesce(a.n, 0) <> d.attempt_count OR coalesce(a.top, 0) <> d.attempt_count
                            THEN 'I2: the attempts are not numbered from 1 without a gap' END,
                       CASE WHEN coalesce(a.open, 0) <> d.in_flight::int
                            THEN 'I2: an attempt without an outcome does not match what is in flight' END,
                       CASE WHEN a.n > 1 + a.definite + a.unknown_attempts
                            THEN 'I3: more attempts than failures and unknown outcomes allow' END,
                       CASE WHEN d.delivery_class = 'once' AND a.top > a.first_unknown
                            THEN 'I3: class once was tried again after an unknown outcome' END,
                       CASE WHEN d.unknown_attempts <> coalesce(a.unknown_attempts, 0)
                            THEN 'I3: the unknown attempts are miscounted' END,
                       CASE WHEN e.n IS DISTINCT FROM d.last_event_sequence::bigint
                                 OR e.top IS DISTINCT FROM d.last_event_sequence
                            THEN 'I5: the events are not numbered from 1 without a gap' END,
                       CASE WHEN e.rank IS DISTINCT FROM array_position($3::text[], d.state)
                            THEN 'I5: the state is not the fold of the events' END
                   ], NULL) AS faults
              FROM d FULL JOIN m ON m.id = d.message_id
              LEFT JOIN e ON e.delivery_id = d.id
              LEFT JOIN a ON a.delivery_id = d.id
        ), strays AS (  -- rows of deliveries that do not exist
            SELECT x.delivery_id AS id, ARRAY['I2: an attempt without a delivery'] AS faults
              FROM a x WHERE NOT EXISTS (SELECT 1 FROM d WHERE d.id = x.delivery_id)
             UNION ALL
            SELECT x.delivery_id, ARRAY['I5: an event without a delivery']
              FROM e x WHERE NOT EXISTS (SELECT 1 FROM d WHERE d.id = x.delivery_id)
        )
        SELECT 'total' AS row, state, count(*) AS n, sum(attempt_count) AS attempts,
               sum(unknown_attempts) AS unknown_attempts, NULL::uuid AS id, NULL::text[] AS faults
          FROM checked WHERE state IS NOT NULL GROUP BY state
         UNION ALL
        SELECT 'fault', state, 0, 0, 0, id, faults FROM checked WHERE faults <> '{}'
         UNION ALL
        SELECT 'fault', NULL, 0, 0, 0, id, faults FROM strays
        """,
        window.first,
        window.last,
        RANKED_STATES,
        DEFINITE_FAILURES,
        timeout=300.0,
    )
    totals = [row for row in rows if row["row"] == "total"]
    states = {row["state"]: int(row["n"]) for row in totals}
    return WindowReport(
        deliveries=sum(states.values()),
        attempts=sum(int(row["attempts"]) for row in totals),
        unknown_attempts=sum(int(row["unknown_attempts"]) for row in totals),
        unsettled=states.get("QUEUED", 0) + states.get("SENDING", 0),
        states=states,
        violations=[{"id": row["id"], "state": row["state"], "faults": row["faults"]} for row in rows if row["faults"]],
    )


async def overdue(db: Db, *, before: datetime, limit: int = 100) -> list[UUID]:
    """Deliveries that have been due since ``before`` and are not enqueued."""
    rows = await db.fetch(
        "SELECT id FROM deliveries WHERE due_at < $1 AND enqueued_at IS NULL ORDER BY due_at LIMIT $2",
        before,
        limit,
        timeout=60.0,
    )
    return [row["id"] for row in rows]


async def count_stale_outbox(db: Db, *, before: datetime) -> int:
    """Count the outbox rows whose ``retry_at`` is earlier than ``before``."""
    count: int = await db.fetchval("SELECT count(*) FROM event_outbox WHERE retry_at < $1", before, timeout=60.0)
    return count


@dataclass(frozen=True, slots=True)
class DeliveryAttempts:
    """The attempts of one delivery in the database, for the comparison with the calls that providers received."""

    delivery_class: str
    attempts: dict[int, tuple[datetime, str | None, str]]  # number: started, outcome, reference


async def attempts_of(db: Db, ids: list[UUID]) -> dict[UUID, DeliveryAttempts]:
    """The attempts of deliveries, by delivery."""
    rows = await db.fetch(
        """
        SELECT d.id, d.delivery_class, a.number, a.started_at, a.outcome, a.client_reference
          FROM deliveries d LEFT JOIN attempts a ON a.delivery_id = d.id AND a.delivery_id BETWEEN $2 AND $3
         WHERE d.id = ANY($1::uuid[]) AND d.id BETWEEN $2 AND $3
        """,
        ids,
        min(ids),
        max(ids),
        timeout=60.0,
    )
    found: dict[UUID, DeliveryAttempts] = {}
    for row in rows:
        one = found.setdefault(row["id"], DeliveryAttempts(row["delivery_class"], {}))
        if row["number"] is not None:
            one.attempts[row["number"]] = (row["started_at"], row["outcome"], row["client_reference"])
    return found
