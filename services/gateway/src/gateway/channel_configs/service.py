"""Channel configurations of a project, for every API that has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from gateway.auth.principal import Principal
from gateway.errors import ChannelConfigExists, NotFound
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model.channel_group import ChannelGroup
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.store import audit, channel_configs
from sluice.store.audit import Actor
from sluice.store.channel_configs import ChannelConfig
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Db


async def create(
    services: Services, principal: Principal, group: ChannelGroup, settings: Mapping[str, Any], actor: Actor
) -> ChannelConfig:
    """Add the configuration of a group. ``settings``: ``enabled``, ``sender_email`` and ``sender_name``.

    Raises:
        ChannelConfigExists: the project has one.
        Unavailable: PostgreSQL does not answer.
    """
    now = utc_now()
    config = ChannelConfig(principal.project_id, group, **settings, created_at=now, updated_at=now)
    async with transaction(services.pool, principal.project_id) as db:
        if not await channel_configs.create_config(db, config):
            raise ChannelConfigExists(f"The project has a {group}-config already: change it with PUT.")
        await _audit(db, actor, config, "created", settings)
    return config


async def find(services: Services, principal: Principal, group: ChannelGroup) -> ChannelConfig:
    """The configuration of a group.

    Raises:
        NotFound: the project has none.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return _found(await channel_configs.find_config(db, principal.project_id, group), group)


async def update(
    services: Services, principal: Principal, group: ChannelGroup, wanted: Mapping[str, Any], actor: Actor
) -> ChannelConfig:
    """Change ``enabled``, ``sender_email`` or ``sender_name`` of a group's configuration.

    Raises:
        NotFound: the project has none.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        before = _found(await channel_configs.find_config(db, principal.project_id, group, lock=True), group)
        changes = {name: value for name, value in wanted.items() if value != getattr(before, name)}
        if not changes:
            return before
        after = replace(before, **changes, updated_at=utc_now())
        await channel_configs.update_config(db, after)
        await _audit(db, actor, after, "updated", changes)
    return after


def _found(config: ChannelConfig | None, group: ChannelGroup) -> ChannelConfig:
    if config is None:
        raise NotFound(f"The project has no {group}-config: create it with POST.")
    return config


async def _audit(db: Db, actor: Actor, config: ChannelConfig, action: str, changes: Mapping[str, Any]) -> None:
    await audit.append(
        db,
        actor,
        project_id=config.project_id,
        action=action,
        noun="channel_config",
        object_id=config.channel_group.value,
        changes=changes,
        now=utc_now(),
    )


async def find_sender(services: Services, principal: Principal) -> str | None:
    """The sender of the project's e-mail configuration, if it has one.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        found = await channel_configs.find_config(db, principal.project_id, ChannelGroup.EMAIL)
    return None if found is None else found.sender


def default_sender(config: ConfigCache, project_id: UUID) -> str | None:
    """The sender of e-mail that names none: that of the e-mail configuration, else of the project; None without one.

    From the configuration in memory, at most one notification behind: for sending.
    """
    found = config.channel_config(project_id, Channel.EMAIL)
    if found is not None and found.sender is not None:
        return found.sender
    project = config.projects.get(project_id)
    return None if project is None else project.default_sender
