"""Incidents as people read them, with what they write about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sluice.model.ids import uuid7
from sluice.store.audit import Actor, ActorKind
from sluice.store.db import Db


@dataclass(frozen=True, slots=True)
class IncidentProvider:
    """A provider of an incident. ``ended_at``: None while it does not work; ``ending``: a value of ``Ending``."""

    provider_id: UUID
    reason: str
    began_at: datetime
    ended_at: datetime | None
    ending: str | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """What became of the deliveries that an incident has touched; a late one may be masked as well."""

    touched: int
    masked: int
    late: int
    failed: int
    unconfirmed: int
    doubled: int
    waiting: int
    counted_at: datetime | None


@dataclass(frozen=True, slots=True)
class By:
    """Who did something, and when. ``name``: the user's e-mail address or the key's name, if it still exists."""

    kind: ActorKind
    id: UUID | None
    name: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Note:
    """A note on an incident."""

    id: UUID
    by: By
    text: str


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident with its providers. ``none_left_until``: None while its channel has no provider, or if it always had
    one.
    """

    id: UUID
    channel: str
    opened_at: datetime
    resolved_at: datetime | None
    cause: str
    none_left_at: datetime | None
    none_left_until: datetime | None
    acknowledged: By | None
    numbers: Numbers
    providers: tuple[IncidentProvider, ...]


MAX_NOTES = 1000  # of an incident: all of them are shown with it

_NAMES = """
    LEFT JOIN users u ON {table}.{kind} = 'user' AND u.id = {table}.{id}
    LEFT JOIN api_keys k ON {table}.{kind} = 'key' AND k.id = {table}.{id} AND k.project_id = {table}.project_id
"""
_NOTE = "n.id, n.actor_kind, n.actor_id, coalesce(u.email, k.name) AS actor_name, n.text, n.created_at"
_NUMBERS = tuple(Numbers.__dataclass_fields__)


async def list_incidents(
    db: Db,
    project_id: UUID,
    *,
    limit: int,
    before: UUID | None = None,
    is_open: bool | None = None,
    channel: str | None = None,
    incident_id: UUID | None = None,
) -> list[Incident]:
    """The newest incidents of a project, those older than the id ``before``; open or resolved ones, or one."""
    rows = await db.fetch(
        f"""
        SELECT i.*, coalesce(u.email, k.name) AS actor_name
          FROM incidents i {_NAMES.format(table="i", kind="acknowledged_kind", id="acknowledged_by")}
         WHERE i.project_id = $1 AND ($2::uuid IS NULL OR i.id < $2) AND ($3::uuid IS NULL OR i.id = $3)
           AND ($4::boolean IS NULL OR (i.resolved_at IS NULL) = $4) AND ($5::text IS NULL OR i.channel = $5)
         ORDER BY i.id DESC LIMIT $6
        """,  # noqa: S608  constants
        *(project_id, before, incident_id, is_open, channel, limit),
    )
    providers = await _providers(db, [row["id"] for row in rows])
    return [_incident(row, tuple(providers[row["id"]])) for row in rows]


async def _providers(db: Db, incident_ids: Sequence[UUID]) -> dict[UUID, list[IncidentProvider]]:
    found: dict[UUID, list[IncidentProvider]] = defaultdict(list)
    for row in await db.fetch(
        """
        SELECT incident_id, provider_id, reason, began_at, ended_at, ending FROM incident_providers
         WHERE incident_id = ANY($1::uuid[]) ORDER BY began_at, provider_id
        """,
        list(incident_ids),
    ):
        fields = dict(row)
        found[fields.pop("incident_id")].append(IncidentProvider(**fields))
    return found


def _incident(row: Any, providers: tuple[IncidentProvider, ...]) -> Incident:
    acknowledged = None
    if row["acknowledged_at"] is not None:
        kind = ActorKind(row["acknowledged_kind"])
        acknowledged = By(kind, row["acknowledged_by"], row["actor_name"], row["acknowledged_at"])
    own = ("id", "channel", "opened_at", "resolved_at", "cause", "none_left_at", "none_left_until")
    return Incident(
        **{name: row[name] for name in own},
        acknowledged=acknowledged,
        numbers=Numbers(**{name: row[name] for name in _NUMBERS}),
        providers=providers,
    )


async def acknowledge(db: Db, project_id: UUID, incident_id: UUID, actor: Actor, *, now: datetime) -> bool:
    """Write who looks after an incident, unless it was written before; whether this call wrote it."""
    found = await db.fetchval(
        """
        UPDATE incidents SET acknowledged_at = $3, acknowledged_kind = $4, acknowledged_by = $5
         WHERE project_id = $1 AND id = $2 AND acknowledged_at IS NULL
        RETURNING true
        """,
        *(project_id, incident_id, now, actor.kind.value, actor.id),
    )
    return found is not None


async def add_note(
    db: Db, project_id: UUID, incident_id: UUID, actor: Actor, text: str, *, now: datetime
) -> Note | None:
    """Add a note to an incident of the project; None when it has ``MAX_NOTES``."""
    row = await db.fetchrow(
        f"""
        WITH n AS (
            INSERT INTO incident_notes (id, incident_id, project_id, actor_kind, actor_id, text, created_at)
            SELECT $1, $2, $3, $4, $5, $6, $7
             WHERE (SELECT count(*) FROM incident_notes WHERE project_id = $3 AND incident_id = $2) < $8
            RETURNING *
        )
        SELECT {_NOTE} FROM n {_NAMES.format(table="n", kind="actor_kind", id="actor_id")}
        """,  # noqa: S608  constants
        *(uuid7(), incident_id, project_id, actor.kind.value, actor.id, text, now, MAX_NOTES),
    )
    return None if row is None else _note(row)


async def list_notes(db: Db, project_id: UUID, incident_id: UUID) -> list[Note]:
    """The notes on an incident, oldest first."""
    rows = await db.fetch(
        f"""
        SELECT {_NOTE} FROM incident_notes n {_NAMES.format(table="n", kind="actor_kind", id="actor_id")}
         WHERE n.project_id = $1 AND n.incident_id = $2 ORDER BY n.id LIMIT $3
        """,  # noqa: S608  constants
        *(project_id, incident_id, MAX_NOTES),
    )
    return [_note(row) for row in rows]


def _note(row: Any) -> Note:
    by = By(ActorKind(row["actor_kind"]), row["actor_id"], row["actor_name"], row["created_at"])
    return Note(row["id"], by, row["text"])
