"""A database that was restored from a backup: what it says is due may have happened after the backup was taken.

Deliveries that were sent since then are unsettled again, and events that Kafka had and consumers had not read are on no
topic. These functions run once, before the first role starts (docs/decisions/0070).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sluice.model.message import DeliveryClass
from sluice.model.outcome import Scope
from sluice.model.state import EventType
from sluice.store import deliveries
from sluice.store.db import Db
from sluice.store.deliveries import Transition

_BATCH = 500
_EVENTS_OF_A_ROW = 200  # as many as a role's batches have


async def end_unconfirmed(db: Db, classes: Collection[DeliveryClass], *, detail: str, now: datetime) -> int:
    """End the deliveries of these classes that may have been sent since the backup; returns how many.

    A delivery that is scheduled for later than ``now`` cannot have been sent and stays.
    """
    ended = 0
    while rows := await _maybe_sent(db, classes, now):
        transitions = [_unconfirmed(row, detail, now) for row in rows]
        result = await deliveries.transition(db, transitions, now=now, outbox_retry_after=timedelta(0))
        ended += sum(sequence is not None for sequence in result.sequences)
    return ended


async def _maybe_sent(db: Db, classes: Collection[DeliveryClass], now: datetime) -> Sequence[Any]:
    rows: Sequence[Any] = await db.fetch(
        """
        SELECT id, project_id, attempt_count, in_flight, provider_id FROM deliveries
         WHERE due_at IS NOT NULL AND (due_at <= $2 OR enqueued_at IS NOT NULL OR in_flight)
           AND delivery_class = ANY($1::text[])
         LIMIT $3
        """,
        [each.value for each in classes],
        now,
        _BATCH,
    )
    return rows


def _unconfirmed(row: Any, detail: str, now: datetime) -> Transition:
    in_flight: bool = row["in_flight"]
    return Transition(
        delivery_id=row["id"],
        project_id=row["project_id"],
        attempt=row["attempt_count"],
        in_flight=in_flight,
        type=EventType.UNCONFIRMED,
        occurred_at=now,
        detail=detail,
        provider_id=row["provider_id"] if in_flight else None,
        outcome="unknown" if in_flight else None,
        unknown=in_flight,
        scope=Scope.MESSAGE if in_flight else None,  # what ended the worker says nothing about the provider
    )


async def cancel_open_jobs(db: Db) -> int:
    """Let gateways cancel the bulk jobs that have rows left; returns how many."""
    rows = await db.fetch("UPDATE bulk_jobs SET status = 'CANCELLING' WHERE status = 'EXPANDING' RETURNING id")
    return len(rows)


async def republish_events(db: Db, *, since: datetime, now: datetime) -> int:
    """Put the events since then into the outbox again, for routers to publish; returns how many.

    Consumers had perhaps not read them, and a new Kafka does not have them. Projections may be repeated.
    """
    count: int = await db.fetchval(
        """
        WITH recent AS (
            SELECT delivery_id, sequence,
                   row_number() OVER (ORDER BY occurred_at, delivery_id, sequence) - 1 AS position
              FROM events WHERE occurred_at >= $1
        ), rows AS (
            INSERT INTO event_outbox (retry_at, delivery_ids, sequences)
            SELECT $2, array_agg(delivery_id ORDER BY position), array_agg(sequence ORDER BY position)
              FROM recent GROUP BY position / $3 ORDER BY position / $3
        )
        SELECT count(*) FROM recent
        """,
        since,
        now,
        _EVENTS_OF_A_ROW,
    )
    return count


async def encryption_key_ids(db: Db) -> list[str]:
    """The ids of the keys that encrypted what the database holds, in hexadecimal."""
    rows = await db.fetch(
        """
        SELECT DISTINCT encode(substring(value FROM 2 FOR 4), 'hex') AS id
          FROM (SELECT encrypted_credentials AS value FROM providers
                UNION ALL SELECT encrypted_secret FROM webhook_secrets) AS encrypted
         WHERE value IS NOT NULL ORDER BY 1
        """
    )
    return [row["id"] for row in rows]
