"""Incidents as the event-worker writes them: opened and resolved from statuses, with the deliveries that they touched.

Every function may be repeated, and run in several processes: one at a time changes incidents, and what is written
already stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.ids import milliseconds_of, min_id_at, uuid7
from sluice.model.incidents import ChannelState, Member, OpenIncident, Plan, ProviderStatus
from sluice.store.db import Connection, Db

LATE_AFTER = timedelta(seconds=5)
"""A delivery that is accepted later than this after it could go is late."""

SEARCHED_BEFORE = timedelta(minutes=2)
"""Attempts that failed so long before a provider's status changed are part of its incident: they were the evidence."""

ACTIVE_AFTER = timedelta(minutes=10)
"""For so long after its end the deliveries of an incident are looked for: events arrive late."""

_LOCK = 7_315_001  # of the transaction that changes incidents
_MAX_SEARCHED = 50_000  # deliveries that one provider touched before it was noticed


class NewNotice(NamedTuple):
    """What webhooks say: a provider of a channel has stopped or begun to work."""

    id: UUID
    incident_id: UUID
    provider_id: UUID
    project_id: UUID
    channel: str
    status: str
    reason: str
    incident: str
    occurred_at: datetime


class ActiveIncident(NamedTuple):
    """An incident of which deliveries are looked for."""

    id: UUID
    project_id: UUID
    channel: str
    is_open: bool
    has_none: bool


class Unsearched(NamedTuple):
    """A provider in an incident of which the earlier deliveries were not looked for."""

    incident_id: UUID
    provider_id: UUID
    project_id: UUID
    began_at: datetime
    noticed_at: datetime


# -- opening and resolving -----------------------------------------------------------------------------------------


async def lock(db: Connection) -> None:
    """Let one transaction at a time change incidents."""
    await db.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def read_channels(db: Db) -> list[ChannelState]:
    """The channels in which a provider may not work, or an incident is open."""
    incidents: dict[tuple[UUID, str], dict[str, Any]] = {}
    for row in await db.fetch(
        """
        SELECT i.project_id, i.channel, i.id, i.opened_at, i.none_left_at IS NOT NULL AND i.none_left_until IS NULL
               AS has_none, m.provider_id, m.began_at, m.ended_at
          FROM incidents i LEFT JOIN incident_providers m ON m.incident_id = i.id
         WHERE i.resolved_at IS NULL
        """
    ):
        found = incidents.setdefault((row["project_id"], row["channel"]), dict(row) | {"members": {}})
        if row["provider_id"] is not None:
            found["members"][row["provider_id"]] = Member(row["provider_id"], row["began_at"], row["ended_at"])
    members = [provider_id for one in incidents.values() for provider_id in one["members"]]
    statuses: dict[tuple[UUID, str], list[ProviderStatus]] = defaultdict(list)
    for row in await db.fetch("SELECT * FROM provider_faults WHERE is_faulty OR provider_id = ANY($1)", members):
        fields = {name: value for name, value in row.items() if name != "is_faulty"}
        statuses[row["project_id"], row["channel"]].append(ProviderStatus(**fields))
    keys = sorted(incidents.keys() | statuses.keys())
    counts = {
        (row["project_id"], row["channel"]): row
        for row in await db.fetch(
            """
            SELECT k.project_id, k.channel,
                   (SELECT count(*) FROM providers p WHERE p.project_id = k.project_id AND p.channel = k.channel
                       AND p.enabled AND p.deleted_at IS NULL) AS enabled,
                   (SELECT max(i.resolved_at) FROM incidents i
                     WHERE i.project_id = k.project_id AND i.channel = k.channel) AS resolved_at
              FROM unnest($1::uuid[], $2::text[]) AS k (project_id, channel)
            """,
            [key[0] for key in keys],
            [key[1] for key in keys],
        )
    }
    return [
        ChannelState(
            *key,
            statuses=tuple(statuses[key]),
            enabled=counts[key]["enabled"],
            incident=_open_incident(incidents[key]) if key in incidents else None,
            resolved_at=counts[key]["resolved_at"],
        )
        for key in keys
    ]


def _open_incident(fields: Mapping[str, Any]) -> OpenIncident:
    return OpenIncident(fields["id"], fields["opened_at"], fields["members"], fields["has_none"])


async def write(db: Connection, plans: Iterable[Plan], *, now: datetime) -> list[NewNotice]:
    """Write what changes, in the transaction that has read the channels; returns the notices for webhooks."""
    notices: list[NewNotice] = []
    for plan in plans:
        notices += await _write_one(db, plan, now)
    if notices:
        await db.executemany(
            """
            INSERT INTO incident_notices (id, incident_id, provider_id, project_id, channel, status, reason, incident,
                                          occurred_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            notices,
        )
    return notices


async def _write_one(db: Connection, plan: Plan, now: datetime) -> list[NewNotice]:
    channel = plan.channel
    if channel.incident is None:
        assert plan.opened_at is not None
        incident_id = uuid7(milliseconds_of(plan.opened_at))
        await db.execute(
            "INSERT INTO incidents (id, project_id, channel, opened_at, cause) VALUES ($1, $2, $3, $4, $5)",
            *(incident_id, channel.project_id, channel.channel, plan.opened_at, plan.joined[0].reason),
        )
    else:
        incident_id = channel.incident.id
    await _write_members(db, plan, incident_id, now)
    await db.execute(
        """
        UPDATE incidents SET resolved_at = $2,
               none_left_at = CASE WHEN $3 THEN coalesce(none_left_at, $4) ELSE none_left_at END,
               none_left_until = CASE WHEN $3 THEN NULL WHEN NOT $3 THEN $4 ELSE none_left_until END
         WHERE id = $1
        """,
        *(incident_id, plan.resolved_at, plan.has_none, now),
    )
    ended = sorted(plan.ended, key=lambda one: one.at)
    facts = [(one.provider_id, one.status, one.reason, one.began_at, False) for one in plan.joined]
    facts += [
        (one.provider_id, "healthy" if one.ending == "recovered" else one.ending.value, "", one.at, one is ended[-1])
        for one in ended
    ]
    return [
        NewNotice(
            *(uuid7(), incident_id, provider_id, channel.project_id, channel.channel, status, reason),
            incident="resolved" if is_last and plan.resolved_at is not None else "open",
            occurred_at=at,
        )
        for provider_id, status, reason, at, is_last in facts
    ]


async def _write_members(db: Connection, plan: Plan, incident_id: UUID, now: datetime) -> None:
    for joined in plan.joined:
        await db.execute(
            """
            INSERT INTO incident_providers (incident_id, provider_id, project_id, reason, began_at, noticed_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (incident_id, provider_id) DO UPDATE SET ended_at = NULL, ending = NULL, searched_at = NULL,
               noticed_at = excluded.noticed_at
            """,
            *(incident_id, joined.provider_id, plan.channel.project_id, joined.reason, joined.began_at, now),
        )
    for ended in plan.ended:
        await db.execute(
            "UPDATE incident_providers SET ended_at = $3, ending = $4 WHERE incident_id = $1 AND provider_id = $2",
            *(incident_id, ended.provider_id, ended.at, ended.ending.value),
        )


# -- the deliveries that they touched -------------------------------------------------------------------------------


async def list_active(db: Db, *, now: datetime) -> list[ActiveIncident]:
    """The incidents to which events may still belong."""
    rows = await db.fetch(
        """
        SELECT id, project_id, channel, resolved_at IS NULL AS is_open,
               none_left_at IS NOT NULL AND none_left_until IS NULL AS has_none
          FROM incidents WHERE resolved_at IS NULL OR resolved_at > $1 OR waiting > 0
        """,
        now - ACTIVE_AFTER,
    )
    return [ActiveIncident(**row) for row in rows]


async def touch(db: Db, incident_ids: Sequence[UUID], delivery_ids: Sequence[UUID]) -> int:
    """Write, or write again, what became of those of the deliveries that the incidents touched; returns their number.

    An incident touches a delivery with an attempt that failed at one of its providers, or that went elsewhere because
    the provider before it in the order did not work, and one for which no provider can be called.
    """
    touched: int = await db.fetchval(
        """
        WITH d AS MATERIALIZED (
            SELECT d.id, d.message_id, d.project_id, d.state, d.due_at, d.preferred_provider_id, i.id AS incident_id,
                   i.opened_at - $3::interval AS begins, coalesce(i.resolved_at, 'infinity') AS ends
              FROM (SELECT * FROM unnest($1::uuid[]) AS k (id) LIMIT cardinality($1::uuid[])) AS k
              JOIN deliveries d ON d.id = k.id AND NOT d.sandbox
              JOIN incidents i ON i.project_id = d.project_id AND i.channel = d.channel AND i.id = ANY($2::uuid[])
        ), written AS (
            INSERT INTO incident_deliveries (delivery_id, incident_id, project_id, message_id, settled, masked, late,
                                             failed, unconfirmed, doubled)
            SELECT d.id, d.incident_id, d.project_id, d.message_id, d.due_at IS NULL,
                   d.state NOT IN ('QUEUED', 'SENDING', 'FAILED', 'EXPIRED', 'UNCONFIRMED', 'CANCELLED')
                   AND coalesce(a.elsewhere, false),
                   coalesce(a.accepted_at - greatest(m.created_at, m.send_at) > $4::interval, false),
                   d.state IN ('FAILED', 'EXPIRED'), d.state = 'UNCONFIRMED', coalesce(a.arrivals > 1, false)
              FROM d JOIN messages m ON m.id = d.message_id
             CROSS JOIN LATERAL (
                   SELECT bool_or(a.outcome IN ('provider_fault', 'unknown', 'auth_failed', 'throttled')
                                  AND p.provider_id IS NOT NULL AND a.started_at >= p.began_at - $3::interval
                                  AND a.started_at <= coalesce(p.ended_at, 'infinity')
                               OR a.started_at BETWEEN d.begins AND d.ends AND EXISTS (
                                  SELECT FROM json_array_elements(a.routing_decision::json -> 'candidates')
                                              WITH ORDINALITY AS c (one, place)
                                    JOIN incident_providers o ON o.incident_id = d.incident_id
                                                             AND o.provider_id = (c.one ->> 'id')::uuid
                                   WHERE c.one ->> 'excluded' ~ '^(unhealthy|suspended)'
                                     AND (o.provider_id = d.preferred_provider_id OR c.place < (
                                         SELECT f.place
                                           FROM json_array_elements(a.routing_decision::json -> 'candidates')
                                                WITH ORDINALITY AS f (one, place)
                                          WHERE f.one ->> 'excluded' IS NULL)))) AS is_touched,
                          bool_or(a.outcome = 'accepted' AND p.provider_id IS NULL) AS elsewhere,
                          min(a.finished_at) FILTER (WHERE a.outcome = 'accepted') AS accepted_at,
                          count(DISTINCT a.client_reference)
                          FILTER (WHERE a.outcome IS NULL OR a.outcome IN ('accepted', 'unknown')) AS arrivals
                     FROM attempts a
                     LEFT JOIN incident_providers p ON p.incident_id = d.incident_id AND p.provider_id = a.provider_id
                    WHERE a.delivery_id = d.id) AS a
             WHERE coalesce(a.is_touched, false)
                OR EXISTS (SELECT FROM events e WHERE e.delivery_id = d.id AND e.type = 'postponed'
                              AND e.occurred_at BETWEEN d.begins AND d.ends)
                OR EXISTS (SELECT FROM incident_deliveries t
                            WHERE t.delivery_id = d.id AND t.incident_id = d.incident_id)
            ON CONFLICT (delivery_id, incident_id) DO UPDATE SET
               settled = excluded.settled, masked = excluded.masked, late = excluded.late, failed = excluded.failed,
               unconfirmed = excluded.unconfirmed, doubled = excluded.doubled
            RETURNING 1
        )
        SELECT count(*) FROM written
        """,
        list(delivery_ids),
        list(incident_ids),
        SEARCHED_BEFORE,
        LATE_AFTER,
    )
    return touched


async def list_unsearched(db: Db, *, noticed_before: datetime) -> list[Unsearched]:
    """The providers in incidents of which earlier deliveries were not looked for."""
    rows = await db.fetch(
        """
        SELECT incident_id, provider_id, project_id, began_at, noticed_at FROM incident_providers
         WHERE searched_at IS NULL AND noticed_at <= $1
        """,
        noticed_before,
    )
    return [Unsearched(**row) for row in rows]


async def find_earlier(db: Db, of: Unsearched) -> list[UUID]:
    """The deliveries of which an attempt at the provider failed shortly before it was noticed, and until now."""
    begins = max(of.began_at - SEARCHED_BEFORE, of.noticed_at - ACTIVE_AFTER)
    rows = await db.fetch(
        """
        SELECT DISTINCT delivery_id FROM attempts
         WHERE delivery_id >= $1 AND project_id = $2 AND provider_id = $3
           AND outcome IN ('provider_fault', 'unknown', 'auth_failed', 'throttled')
         LIMIT $4
        """,
        *(min_id_at(begins), of.project_id, of.provider_id, _MAX_SEARCHED),
    )
    return [row["delivery_id"] for row in rows]


async def mark_searched(db: Db, of: Unsearched, *, now: datetime) -> None:
    """The earlier deliveries are written; a provider that was noticed again meanwhile is searched again."""
    await db.execute(
        "UPDATE incident_providers SET searched_at = $4"
        " WHERE incident_id = $1 AND provider_id = $2 AND noticed_at = $3",
        *(of.incident_id, of.provider_id, of.noticed_at, now),
    )


async def count_touched(db: Db, incident_ids: Sequence[UUID], *, now: datetime) -> None:
    """Write the numbers of these incidents."""
    await db.execute(
        """
        UPDATE incidents i SET touched = n.touched, masked = n.masked, late = n.late, failed = n.failed,
               unconfirmed = n.unconfirmed, doubled = n.doubled, waiting = n.waiting, counted_at = $2
          FROM (SELECT k.id, count(t.delivery_id) AS touched, count(*) FILTER (WHERE t.masked) AS masked,
                       count(*) FILTER (WHERE t.late) AS late, count(*) FILTER (WHERE t.failed) AS failed,
                       count(*) FILTER (WHERE t.unconfirmed) AS unconfirmed,
                       count(*) FILTER (WHERE t.doubled) AS doubled,
                       count(*) FILTER (WHERE NOT t.settled) AS waiting
                  FROM unnest($1::uuid[]) AS k (id)
                  LEFT JOIN incident_deliveries t ON t.incident_id = k.id
                 GROUP BY k.id) n
         WHERE i.id = n.id
        """,
        list(incident_ids),
        now,
    )


async def delete_old(db: Db, *, before: datetime) -> None:
    """Delete the incidents that ended before a time; their deliveries go with the week of the deliveries."""
    await db.execute("DELETE FROM incidents WHERE resolved_at < $1", before)
