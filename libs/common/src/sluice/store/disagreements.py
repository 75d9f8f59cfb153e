"""Requests from the bus that disagree with the row of their delivery: refused, counted, and kept for ``sluice verify``.

A record on the bus is a hint (docs/decisions/0032): claims and transitions compare what it says with the row. This
module finds out afterwards why a request was refused, so that requests that agree pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import structlog

from sluice.runtime import metrics
from sluice.store.db import DATABASE_ERRORS, Db, columns

log = structlog.get_logger()

_KEPT = timedelta(days=30)
FIELDS = ("project_id", "sandbox", "due_at", "expires_at")
"""The columns of a delivery that a record can disagree with."""

for _field in FIELDS:  # a rate does not see the event with which a series begins
    metrics.series(metrics.BUS_DISAGREEMENTS, _field)


class Refused(NamedTuple):
    """What a refused request says of its delivery; ``attempt_count`` is what it expects in the row."""

    delivery_id: UUID
    project_id: UUID | None
    attempt_count: int
    in_flight: bool
    sandbox: bool | None  # None: it does not depend on it
    starts: bool  # a call would start: the delivery must be enqueued or due
    expires: bool  # the delivery would end because of its expiry


class Disagreement(NamedTuple):
    """A delivery, the column that records disagreed with, how many did, and when the last one."""

    delivery_id: UUID
    field: str
    records: int
    last_seen_at: datetime


async def record(db: Db, refused: Sequence[Refused], *, now: datetime | None = None) -> None:
    """Count and keep those of ``refused`` that disagree with their row.

    One that lost a race, or repeats what has been done, disagrees with nothing. One row is kept per delivery and
    field, for 30 days. ``now``: the database's clock without one. An error of PostgreSQL is logged and not raised:
    the claims of the same batch are committed, and their callers must learn of them.
    """
    if not refused:
        return
    try:
        counts = await _keep(db, refused, now)
    except DATABASE_ERRORS as error:
        log.warning("bus_disagreements_not_kept", error=type(error).__name__, refused=len(refused))
        return
    for field, count in counts:
        metrics.series(metrics.BUS_DISAGREEMENTS, field).inc(count)


async def _keep(db: Db, refused: Sequence[Refused], now: datetime | None) -> list[tuple[str, int]]:
    rows = await db.fetch(
        """
        WITH requested AS (
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::boolean[], $5::boolean[], $6::boolean[],
                                 $7::boolean[])
                AS r (delivery_id, project_id, attempt_count, in_flight, sandbox, starts, expires)
             LIMIT cardinality($1)  -- see sluice.store.db
        ), found AS (
            SELECT d.id, CASE WHEN d.project_id <> r.project_id THEN 'project_id'
                              WHEN d.sandbox <> r.sandbox THEN 'sandbox'
                              WHEN d.attempt_count <> r.attempt_count OR d.in_flight <> r.in_flight
                                   OR d.state NOT IN ('QUEUED', 'SENDING') THEN NULL  -- a repeat, or a lost race
                              WHEN r.starts AND d.enqueued_at IS NULL AND d.due_at > coalesce($8::timestamptz, now())
                              THEN 'due_at'
                              WHEN r.expires AND d.expires_at > coalesce($8::timestamptz, now()) THEN 'expires_at'
                         END AS field
              FROM requested r JOIN deliveries d ON d.id = r.delivery_id
        ), counted AS (
            SELECT id, field, count(*)::int AS count FROM found WHERE field IS NOT NULL GROUP BY id, field
        ), kept AS (
            INSERT INTO bus_disagreements AS b (delivery_id, field, count, last_seen_at)
            SELECT id, field, count, coalesce($8::timestamptz, now()) FROM counted ORDER BY id, field
                ON CONFLICT (delivery_id, field)
                DO UPDATE SET count = b.count + excluded.count, last_seen_at = excluded.last_seen_at
        ), forgotten AS (
            DELETE FROM bus_disagreements WHERE last_seen_at < coalesce($8::timestamptz, now()) - $9::interval
        )
        SELECT field, count FROM counted
        """,
        *columns(refused).values(),
        now,
        _KEPT,
    )
    return [(row["field"], row["count"]) for row in rows]


async def newest(db: Db, *, limit: int = 100) -> list[Disagreement]:
    """The newest disagreements, newest first."""
    rows = await db.fetch(
        "SELECT delivery_id, field, count, last_seen_at FROM bus_disagreements ORDER BY last_seen_at DESC LIMIT $1",
        limit,
    )
    return [Disagreement(*row) for row in rows]
