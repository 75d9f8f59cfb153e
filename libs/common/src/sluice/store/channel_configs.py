"""Channel configurations: per project and channel group, whether it sends, and the default sender of its e-mail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sluice.model.address import format_address
from sluice.model.channel_group import ChannelGroup
from sluice.store.db import Db


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """The configuration of one channel group in a project. Only that of e-mail has a sender."""

    project_id: UUID
    channel_group: ChannelGroup
    enabled: bool
    sender_email: str | None
    sender_name: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def sender(self) -> str | None:
        """``Name <local@domain>`` or the bare address; None without one."""
        return None if self.sender_email is None else format_address(self.sender_name or "", self.sender_email)


_COLUMNS = "project_id, channel_group, enabled, sender_email, sender_name, created_at, updated_at"


def _config(row: Any) -> ChannelConfig:
    return ChannelConfig(**dict(row) | {"channel_group": ChannelGroup(row["channel_group"])})


async def create_config(db: Db, config: ChannelConfig) -> bool:
    """Add the configuration of a group; False if the project has one already."""
    created = await db.fetchval(
        f"""
        INSERT INTO channel_configs ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (project_id, channel_group) DO NOTHING
        RETURNING true
        """,  # noqa: S608  (a constant)
        config.project_id,
        config.channel_group.value,
        config.enabled,
        config.sender_email,
        config.sender_name,
        config.created_at,
        config.updated_at,
    )
    return created is not None


async def find_config(db: Db, project_id: UUID, group: ChannelGroup, *, lock: bool = False) -> ChannelConfig | None:
    """The configuration of a group; with ``lock``, unchanged by others until the transaction ends."""
    row = await db.fetchrow(
        f"SELECT {_COLUMNS} FROM channel_configs WHERE project_id = $1 AND channel_group = $2"  # noqa: S608
        + (" FOR UPDATE" if lock else ""),
        project_id,
        group.value,
    )
    return None if row is None else _config(row)


async def list_configs(db: Db, project_id: UUID | None = None) -> list[ChannelConfig]:
    """All configurations, or those of one project."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM channel_configs WHERE $1::uuid IS NULL OR project_id = $1",  # noqa: S608
        project_id,
    )
    return [_config(row) for row in rows]


async def update_config(db: Db, config: ChannelConfig) -> bool:
    """Replace the settings of a group; whether the project has a configuration of it."""
    found = await db.fetchval(
        """
        UPDATE channel_configs SET enabled = $3, sender_email = $4, sender_name = $5, updated_at = $6
         WHERE project_id = $1 AND channel_group = $2
        RETURNING true
        """,
        config.project_id,
        config.channel_group.value,
        config.enabled,
        config.sender_email,
        config.sender_name,
        config.updated_at,
    )
    return found is not None
