"""Devices of the people to whom a project sends push notifications."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.store import projects
from sluice.store.db import Db

MAX_DEVICES = 100
"""Devices of one user: the oldest make room for a new one. A reinstalled app leaves its former token behind."""

_GONE = [Reason.UNKNOWN_RECIPIENT.value, Reason.INVALID_ADDRESS.value]


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a user. ``token``: what the provider knows it by."""

    user_id: str
    token: str
    provider: str
    platform: str | None


def _digest(token: str) -> bytes:
    """The key of a token, which is longer than an index can hold."""
    return hashlib.sha256(token.encode()).digest()


async def register(db: Db, project_id: UUID, device: Device, *, now: datetime) -> None:
    """Add a device, or give a known token to this user; the user's oldest devices above the limit are removed.

    A project that was deleted meanwhile gets none.
    """
    await db.execute(
        f"""
        WITH live AS ({projects.live("ARRAY[$1::uuid]")})
        INSERT INTO devices (project_id, token_digest, token, user_id, provider, platform, created_at, registered_at)
        SELECT id, $2, $3, $4, $5, $6, $7, $7 FROM live
        ON CONFLICT (project_id, token_digest) DO UPDATE
           SET user_id = excluded.user_id, provider = excluded.provider, platform = excluded.platform,
               registered_at = excluded.registered_at
        """,  # noqa: S608  a constant
        project_id,
        _digest(device.token),
        device.token,
        device.user_id,
        device.provider,
        device.platform,
        now,
    )
    await db.execute(
        """
        DELETE FROM devices d
         USING (SELECT token_digest FROM devices WHERE project_id = $1 AND user_id = $2
                 ORDER BY registered_at DESC OFFSET $3) AS oldest
         WHERE d.project_id = $1 AND d.token_digest = oldest.token_digest
        """,
        project_id,
        device.user_id,
        MAX_DEVICES,
    )


async def list_tokens(db: Db, project_id: UUID, user_id: str) -> list[str]:
    """The tokens of a user's devices, the newest first."""
    rows = await db.fetch(
        "SELECT token FROM devices WHERE project_id = $1 AND user_id = $2 ORDER BY registered_at DESC",
        project_id,
        user_id,
    )
    return [row["token"] for row in rows]


async def remove(db: Db, project_id: UUID, token: str) -> bool:
    """Delete a device; false if the project has none with this token."""
    status = await db.execute(
        "DELETE FROM devices WHERE project_id = $1 AND token_digest = $2", project_id, _digest(token)
    )
    return status != "DELETE 0"


async def remove_unregistered(db: Db, events: Sequence[tuple[UUID, int]]) -> int:
    """Delete the devices that their provider reports as gone; returns how many.

    ``events``: delivery id and sequence of events with which deliveries failed. What they say is read from the
    database. A device that was registered again since stays, and test messages delete none.
    """
    status = await db.execute(
        """
        DELETE FROM devices d
         USING (SELECT * FROM unnest($1::uuid[], $2::smallint[]) AS k (delivery_id, sequence)
                 LIMIT cardinality($1)  -- see sluice.store.db
               ) AS k
          JOIN events e ON e.delivery_id = k.delivery_id AND e.sequence = k.sequence
          JOIN deliveries failed ON failed.id = k.delivery_id
         WHERE e.type = $3 AND e.reason = ANY($4::text[]) AND failed.channel = 'push' AND NOT failed.sandbox
           AND d.project_id = failed.project_id AND d.token_digest = sha256(convert_to(failed.recipient, 'UTF8'))
           AND d.registered_at <= e.occurred_at
        """,
        [delivery_id for delivery_id, _ in events],
        [sequence for _, sequence in events],
        EventType.FAILED.value,
        _GONE,
    )
    return int(status.rpartition(" ")[2])
