"""What the health service has published about providers, kept: the newest status, each change, and every five minutes.

A projection of ``provider.health``. A record that is older than what is stored changes nothing, so that a batch may be
repeated, and several processes may write.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.store.db import Db, columns

KEPT_FOR = timedelta(days=31)
"""Steps and changes; a dashboard shows a day, a report a month."""

STEP = timedelta(minutes=5)

_RANK = "array_position(ARRAY['healthy', 'degraded', 'unhealthy'], {})"


class PublishedHealth(NamedTuple):
    """A record of ``provider.health``, as far as it is kept. Times in ``…_at`` may be None."""

    provider_id: UUID
    project_id: UUID
    status: str
    reason: str
    changed_at: datetime | None
    full_share_at: datetime | None
    suspended_until: datetime | None
    seed_status: str
    seed_reason: str
    seed_changed_at: datetime | None
    error_rate: float
    samples: float
    updated_at: datetime


class HealthStep(NamedTuple):
    """The worst of a step of time, and the highest error rate with the effective number of attempts behind it."""

    at: datetime
    status: str
    error_rate: float
    samples: float


class HealthChange(NamedTuple):
    """A status that a provider reached."""

    provider_id: UUID
    at: datetime
    status: str
    reason: str
    error_rate: float


async def record(db: Db, batch: Sequence[PublishedHealth]) -> None:
    """Write a batch (at least one, each provider once) in one statement; other ids than of providers are ignored."""
    await db.execute(
        f"""
        WITH r AS MATERIALIZED (
            SELECT n.*, v.status IS DISTINCT FROM n.status AND (v.status IS NOT NULL OR n.status <> 'healthy') AS moved,
                   -- A status may be left without a new time: evidence elsewhere was taken from it.
                   CASE WHEN v.changed_at = n.changed_at OR n.changed_at IS NULL THEN n.updated_at ELSE n.changed_at END
                   AS reached_at
              FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                          $7::timestamptz[], $8::text[], $9::text[], $10::timestamptz[], $11::real[], $12::real[],
                          $13::timestamptz[])
                   AS n (provider_id, project_id, status, reason, changed_at, full_share_at, suspended_until,
                         seed_status, seed_reason, seed_changed_at, error_rate, samples, updated_at)
              JOIN providers p ON p.id = n.provider_id AND p.project_id = n.project_id
              LEFT JOIN provider_statuses v ON v.provider_id = n.provider_id
             WHERE v.updated_at IS NULL OR v.updated_at < n.updated_at
             ORDER BY n.provider_id
        ), change AS (
            INSERT INTO health_changes (provider_id, occurred_at, project_id, status, reason, error_rate)
            SELECT provider_id, reached_at, project_id, status, reason, error_rate FROM r WHERE moved
            ON CONFLICT DO NOTHING
        ), step AS (
            INSERT INTO health_steps AS s (provider_id, step_at, project_id, status, error_rate, samples)
            SELECT provider_id, date_bin('{STEP}', updated_at, 'epoch'), project_id, status, error_rate, samples FROM r
            ON CONFLICT (provider_id, step_at) DO UPDATE SET
               status = CASE WHEN {_RANK.format("excluded.status")} > {_RANK.format("s.status")}
                             THEN excluded.status ELSE s.status END,
               samples = CASE WHEN excluded.error_rate >= s.error_rate THEN excluded.samples ELSE s.samples END,
               error_rate = greatest(s.error_rate, excluded.error_rate)
        )
        INSERT INTO provider_statuses AS v (provider_id, project_id, status, reason, changed_at, full_share_at,
                                            suspended_until, seed_status, seed_reason, seed_changed_at, updated_at)
        SELECT provider_id, project_id, status, reason, changed_at, full_share_at, suspended_until, seed_status,
               seed_reason, seed_changed_at, updated_at FROM r
            ON CONFLICT (provider_id) DO UPDATE SET
               status = excluded.status, reason = excluded.reason, changed_at = excluded.changed_at,
               full_share_at = excluded.full_share_at, suspended_until = excluded.suspended_until,
               seed_status = excluded.seed_status, seed_reason = excluded.seed_reason,
               seed_changed_at = excluded.seed_changed_at, updated_at = excluded.updated_at
         WHERE v.updated_at < excluded.updated_at
        """,  # noqa: S608  constants
        *columns(batch).values(),
    )


async def list_steps(
    db: Db, provider_id: UUID, *, since: datetime, until: datetime, step: timedelta
) -> list[HealthStep]:
    """The steps of [``since``, ``until``) in which something was published, oldest first.

    ``step``: a multiple of :data:`STEP`; steps begin at multiples of it.
    """
    rows = await db.fetch(
        f"""
        SELECT date_bin($4, step_at, 'epoch') AS at,
               (array_agg(status ORDER BY {_RANK.format("status")} DESC))[1] AS status, max(error_rate) AS error_rate,
               (array_agg(samples ORDER BY error_rate DESC))[1] AS samples
          FROM health_steps WHERE provider_id = $1 AND step_at >= date_bin($4, $2, 'epoch') AND step_at < $3
         GROUP BY 1 ORDER BY 1
        """,  # noqa: S608  constants
        provider_id,
        since,
        until,
        step,
    )
    return [HealthStep(**row) for row in rows]


async def list_changes(
    db: Db, provider_ids: Sequence[UUID], *, since: datetime, until: datetime, limit: int = 1000
) -> list[HealthChange]:
    """The newest changes of these providers in [``since``, ``until``), oldest first."""
    rows = await db.fetch(
        """
        SELECT provider_id, occurred_at AS at, status, reason, error_rate FROM health_changes
         WHERE provider_id = ANY($1::uuid[]) AND occurred_at >= $2 AND occurred_at < $3
         ORDER BY occurred_at DESC LIMIT $4
        """,
        list(provider_ids),
        since,
        until,
        limit,
    )
    return [HealthChange(**row) for row in reversed(rows)]


async def delete_old(db: Db, *, now: datetime) -> None:
    """Delete what is older than :data:`KEPT_FOR`."""
    await db.execute("DELETE FROM health_changes WHERE occurred_at < $1", now - KEPT_FOR)
    await db.execute("DELETE FROM health_steps WHERE step_at < $1", now - KEPT_FOR)
