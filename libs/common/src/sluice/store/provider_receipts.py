"""Receipts by provider: whether they still come, and how many webhook requests were refused.

All counts are made of batches, and approximate: a batch of events that is consumed again counts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.store.db import Db, columns

_MOST = 2_000_000_000  # of a count


class ProviderEvents(NamedTuple):
    """What a batch of events says about a provider."""

    provider_id: UUID
    accepted: int  # attempts that it accepted
    received: bool  # whether there was a receipt


class Refusals(NamedTuple):
    """Webhook requests of a provider without a valid signature."""

    provider_id: UUID
    project_id: UUID
    refused_at: datetime
    number: int


@dataclass(frozen=True, slots=True)
class Change:
    """A provider whose receipts have stopped, or come again."""

    provider_id: UUID
    package: str
    silent: bool
    received_at: datetime
    accepted_count: int


@dataclass(frozen=True, slots=True)
class ProviderReceipts:
    """The row of a provider."""

    received_at: datetime | None
    accepted_count: int
    silent_since: datetime | None
    refused_at: datetime | None
    refused_count: int


async def count_events(db: Db, batch: Sequence[ProviderEvents], *, now: datetime) -> None:
    """Add a batch (at least one, each provider once) in one statement. Other ids than of providers are ignored.

    The times are those of the batch and not of its events: while the event-worker catches up, receipts are as late as
    the attempts.
    """
    seen = columns(batch)
    await db.execute(
        """
        INSERT INTO provider_receipts AS r (provider_id, project_id, received_at, accepted_from, accepted_count)
        SELECT p.id, p.project_id, CASE WHEN s.received THEN $4::timestamptz END,
               CASE WHEN NOT s.received THEN $4::timestamptz END, CASE WHEN s.received THEN 0 ELSE s.accepted END
          FROM unnest($1::uuid[], $2::integer[], $3::boolean[]) AS s (provider_id, accepted, received)
          JOIN providers p ON p.id = s.provider_id
         ORDER BY p.id
            ON CONFLICT (provider_id) DO UPDATE SET
               received_at = coalesce(excluded.received_at, r.received_at),
               accepted_from = CASE WHEN excluded.received_at IS NULL
                                    THEN coalesce(r.accepted_from, excluded.accepted_from) END,
               accepted_count = CASE WHEN excluded.received_at IS NULL
                                     THEN least(r.accepted_count::bigint + excluded.accepted_count, $5) ELSE 0 END,
               refused_at = CASE WHEN excluded.received_at IS NULL THEN r.refused_at END,
               refused_count = CASE WHEN excluded.received_at IS NULL THEN r.refused_count ELSE 0 END
        """,
        seen["provider_id"],
        seen["accepted"],
        seen["received"],
        now,
        _MOST,
    )


async def count_refusals(db: Db, batch: Sequence[Refusals]) -> None:
    """Add refused webhook requests (at least one, each provider once) in one statement."""
    seen = columns(batch)
    await db.execute(
        """
        INSERT INTO provider_receipts AS r (provider_id, project_id, refused_at, refused_count)
        SELECT s.* FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::integer[]) AS s (provider_id)
          JOIN providers p ON p.id = s.provider_id  -- which may be gone by now
         ORDER BY s.provider_id
            ON CONFLICT (provider_id) DO UPDATE SET
               refused_at = excluded.refused_at,
               refused_count = least(r.refused_count::bigint + excluded.refused_count, $5)
        """,
        seen["provider_id"],
        seen["project_id"],
        seen["refused_at"],
        seen["number"],
        _MOST,
    )


async def mark_silent(db: Db, *, now: datetime, after: timedelta, attempts: int) -> list[Change]:
    """Mark the providers whose receipts have stopped, unmark the others; returns those that changed.

    Receipts have stopped when the provider has sent some, and has since accepted ``attempts`` attempts, the first of
    them ``after`` ago. Each change is returned to one caller only.
    """
    rows = await db.fetch(
        """
        UPDATE provider_receipts r SET silent_since = CASE WHEN s.silent THEN $1::timestamptz END
          FROM (SELECT c.provider_id, p.package,
                       p.enabled AND p.deleted_at IS NULL AND c.received_at IS NOT NULL
                       AND c.accepted_count >= $3 AND c.accepted_from <= $2 AS silent
                  FROM provider_receipts c JOIN providers p ON p.id = c.provider_id) s
         WHERE s.provider_id = r.provider_id AND s.silent IS DISTINCT FROM (r.silent_since IS NOT NULL)
        RETURNING r.provider_id, s.package, s.silent, r.received_at, r.accepted_count
        """,
        now,
        now - after,
        attempts,
    )
    return [Change(**row) for row in rows]


async def count_silent(db: Db) -> dict[str, int]:
    """The number of providers whose receipts have stopped, by package."""
    rows = await db.fetch(
        "SELECT p.package, count(*) AS number FROM provider_receipts r JOIN providers p ON p.id = r.provider_id"
        " WHERE r.silent_since IS NOT NULL GROUP BY p.package"
    )
    return {row["package"]: row["number"] for row in rows}


async def find(db: Db, provider_id: UUID) -> ProviderReceipts | None:
    """The row of a provider; None for one that was never used."""
    row = await db.fetchrow(
        "SELECT received_at, accepted_count, silent_since, refused_at, refused_count FROM provider_receipts"
        " WHERE provider_id = $1",
        provider_id,
    )
    return None if row is None else ProviderReceipts(**row)


async def list_all(db: Db) -> dict[UUID, ProviderReceipts]:
    """The rows of all providers."""
    rows = await db.fetch(
        "SELECT provider_id, received_at, accepted_count, silent_since, refused_at, refused_count"
        " FROM provider_receipts"
    )
    return {provider_id: ProviderReceipts(*values) for provider_id, *values in map(tuple, rows)}
