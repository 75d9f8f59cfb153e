"""The configuration in memory, kept current by LISTEN/NOTIFY, so that no message needs a query for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import structlog

from sluice.model.candidate import Candidate
from sluice.model.channel_group import GROUP_OF, ChannelGroup
from sluice.model.message import Channel
from sluice.model.routing_policy import RoutingPolicy
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import api_keys, channel_configs, domains, projects, providers
from sluice.store.api_keys import ApiKey
from sluice.store.channel_configs import ChannelConfig
from sluice.store.db import UNAVAILABLE_ERRORS
from sluice.store.projects import Project
from sluice.store.providers import ProviderRow

log = structlog.get_logger()

_CHANNEL = "sluice_config"
_ACCOUNTS_CHANNEL = "sluice_accounts"
_TEMPLATES_CHANNEL = "sluice_templates"
_KEEPALIVE = 5.0  # seconds without a notification after which the connection is tested
_RETRY_DELAY = 0.5  # seconds between connection attempts


AccountWatcher = Callable[[UUID | None], None]
"""Called with the id of a user whose sessions or roles have changed; None: any user's may have."""

TemplateWatcher = Callable[[UUID | None], None]
"""Called with the id of a template that has changed; None: any may have."""


class ConfigCache:
    """Projects, keys and providers, at most one notification behind PostgreSQL.

    While the connection is down, the last state is served. After a reconnection everything is read again, because
    PostgreSQL does not store notifications.
    """

    def __init__(self) -> None:
        self.projects: dict[UUID, Project] = {}
        self.providers: dict[UUID, ProviderRow] = {}
        self._channel_configs: dict[tuple[UUID, ChannelGroup], ChannelConfig] = {}
        self._domain_statuses: dict[tuple[UUID, str], Mapping[str, str]] = {}
        self._keys: dict[str, ApiKey] = {}
        self._enabled_providers: dict[tuple[UUID, Channel], tuple[Candidate, ...]] = {}
        self.loaded = asyncio.Event()
        self._account_watchers: list[AccountWatcher] = []
        self._template_watchers: list[TemplateWatcher] = []
        self._changed: asyncio.Queue[UUID | None] = asyncio.Queue()  # None: the connection was closed

    def candidates(self, project_id: UUID, channel: Channel) -> tuple[Candidate, ...]:
        """The enabled providers of a project's channel, in priority order."""
        return self._enabled_providers.get((project_id, channel), ())

    def routing_policy(self, project_id: UUID) -> RoutingPolicy:
        """The policy that the project has chosen."""
        project = self.projects.get(project_id)
        return RoutingPolicy.ADAPTIVE if project is None else project.routing_policy

    def has_suppressions(self, project_id: UUID) -> bool:
        """Whether addresses of the project may be suppressed: also of one that is not known yet."""
        project = self.projects.get(project_id)
        return project is None or project.has_suppressions

    def channel_config(self, project_id: UUID, channel: Channel) -> ChannelConfig | None:
        """The configuration of the channel's group, if the project has one."""
        return self._channel_configs.get((project_id, GROUP_OF[channel]))

    def domain_statuses(self, project_id: UUID, domain: str) -> Mapping[str, str]:
        """What the newest check of a domain has found, by the purpose of a record, if the project refuses senders of
        other domains; otherwise, and of a domain that it does not have, nothing.
        """
        return self._domain_statuses.get((project_id, domain), {})

    def key(self, prefix: str) -> ApiKey | None:
        """The active key with this public prefix."""
        return self._keys.get(prefix)

    def watch_accounts(self, watcher: AccountWatcher) -> None:
        """Call ``watcher`` after each change of a user's sessions or roles, and when changes may have been missed."""
        self._account_watchers.append(watcher)

    def watch_templates(self, watcher: TemplateWatcher) -> None:
        """Call ``watcher`` after each change of a template, and when changes may have been missed."""
        self._template_watchers.append(watcher)

    @asynccontextmanager
    async def subscribed(self, dsn: str) -> AsyncIterator[ConfigCache]:
        """Read everything once, then apply changes until the block ends."""
        listener = supervised(self._listen_forever(dsn), name="configuration")
        try:
            await self.loaded.wait()
            yield self
        finally:
            await cancel_and_wait(listener)

    async def _listen_forever(self, dsn: str) -> None:
        while True:
            try:
                connection = await asyncpg.connect(dsn, timeout=3.0, command_timeout=10.0)
                try:
                    await self._listen(connection)
                finally:
                    connection.terminate()
            except UNAVAILABLE_ERRORS as error:
                log.warning("config_connection_lost", error=type(error).__name__)
            except asyncpg.PostgresError as error:
                log.error("config_unreadable", error=str(error))
            await asyncio.sleep(_RETRY_DELAY)

    async def _listen(self, connection: asyncpg.Connection) -> None:
        await connection.add_listener(_CHANNEL, self._notified)
        await connection.add_listener(_ACCOUNTS_CHANNEL, self._account_changed)
        await connection.add_listener(_TEMPLATES_CHANNEL, self._template_changed)
        self._notify_missed()
        connection.add_termination_listener(self._terminated)
        await self._read(connection, None)
        self.loaded.set()
        while True:
            try:
                async with asyncio.timeout(_KEEPALIVE):
                    changed = {await self._changed.get()}
                if connection.is_closed():
                    raise ConnectionResetError("the connection was lost")
            except TimeoutError:
                await connection.execute("SELECT 1")
                continue
            while not self._changed.empty():
                changed.add(self._changed.get_nowait())
            for project_id in changed - {None}:
                await self._read(connection, project_id)

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._changed.put_nowait(UUID(str(payload).partition(":")[2]))

    def _account_changed(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for watcher in self._account_watchers:
            watcher(UUID(str(payload)))

    def _template_changed(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for watcher in self._template_watchers:
            watcher(UUID(str(payload)))

    def _notify_missed(self) -> None:
        """Notifications may have been lost: what watchers keep may be outdated."""
        for watcher in (*self._account_watchers, *self._template_watchers):
            watcher(None)

    def _terminated(self, _connection: object) -> None:
        self._notify_missed()
        self._changed.put_nowait(None)

    async def _read(self, connection: asyncpg.Connection, project_id: UUID | None) -> None:
        project_rows = await projects.list_projects(connection, project_id)
        key_rows = await api_keys.list_keys(connection, project_id)
        provider_rows = await providers.list_providers(connection, project_id)
        config_rows = await channel_configs.list_configs(connection, project_id)
        domain_statuses = await domains.list_statuses(connection, project_id)
        self._drop(project_id)
        self._domain_statuses.update(domain_statuses)
        self._channel_configs.update(((row.project_id, row.channel_group), row) for row in config_rows)
        self.projects.update((project.id, project) for project in project_rows)
        self._keys.update((key.key_prefix, key) for key in key_rows)
        self.providers.update((provider.id, provider) for provider in provider_rows)
        enabled: dict[tuple[UUID, Channel], list[Candidate]] = {}
        for row in provider_rows:
            if row.enabled and not row.deleted:
                enabled.setdefault((row.project_id, row.channel), []).append(row.candidate)
        self._enabled_providers.update((scope, tuple(candidates)) for scope, candidates in enabled.items())

    def _drop(self, project_id: UUID | None) -> None:
        if project_id is None:
            self.projects, self._keys, self.providers, self._enabled_providers = {}, {}, {}, {}
            self._channel_configs, self._domain_statuses = {}, {}
            return
        self.projects.pop(project_id, None)
        self._keys = {prefix: key for prefix, key in self._keys.items() if key.project_id != project_id}
        self.providers = {id_: row for id_, row in self.providers.items() if row.project_id != project_id}
        self._enabled_providers = {
            scope: rows for scope, rows in self._enabled_providers.items() if scope[0] != project_id
        }
        self._channel_configs = {scope: row for scope, row in self._channel_configs.items() if scope[0] != project_id}
        self._domain_statuses = {
            scope: found for scope, found in self._domain_statuses.items() if scope[0] != project_id
        }
