"""Configuration in memory, kept fresh by LISTEN/NOTIFY: no look-up per message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import structlog

from sluice.model.message import Channel
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import api_keys, projects, providers
from sluice.store.api_keys import ApiKey
from sluice.store.db import UNAVAILABLE_ERRORS
from sluice.store.projects import Project
from sluice.store.providers import ProviderRow

log = structlog.get_logger()

_CHANNEL = "sluice_config"
_PROBE = 5.0  # seconds between signs of life on the listening connection
_RETRY_DELAY = 0.5  # seconds before the next try after the connection was lost


class ConfigCache:
    """Projects, keys and providers as they are in Postgres, at most a notification behind.

    While the connection is down the last known state is served; on reconnect all is read again, because
    notifications are not kept for those who are away.
    """

    def __init__(self) -> None:
        self.projects: dict[UUID, Project] = {}
        self.providers: dict[UUID, ProviderRow] = {}
        self._keys: dict[str, ApiKey] = {}
        self._enabled_providers: dict[tuple[UUID, Channel], tuple[ProviderRow, ...]] = {}
        self.loaded = asyncio.Event()
        self._changed: asyncio.Queue[UUID | None] = asyncio.Queue()  # None: look at the connection

    def candidates(self, project_id: UUID, channel: Channel) -> tuple[ProviderRow, ...]:
        """The enabled providers of a project's channel, in priority order."""
        return self._enabled_providers.get((project_id, channel), ())

    def key(self, prefix: str) -> ApiKey | None:
        """The active key with this public part."""
        return self._keys.get(prefix)

    def add_key(self, key: ApiKey) -> None:
        """Remember a key that was found in the database before its notification came."""
        self._keys[key.key_prefix] = key

    @asynccontextmanager
    async def subscribed(self, dsn: str) -> AsyncIterator[ConfigCache]:
        """Read everything once, then follow the changes until the block ends."""
        follower = supervised(self._listen_forever(dsn), name="configuration")
        try:
            await self.loaded.wait()
            yield self
        finally:
            await cancel_and_wait(follower)

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
        connection.add_termination_listener(self._terminated)
        await self._read(connection, None)
        self.loaded.set()
        while True:
            try:
                async with asyncio.timeout(_PROBE):
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

    def _terminated(self, _connection: object) -> None:
        self._changed.put_nowait(None)

    async def _read(self, connection: asyncpg.Connection, project_id: UUID | None) -> None:
        project_rows = await projects.list_projects(connection, project_id)
        key_rows = await api_keys.list_keys(connection, project_id)
        provider_rows = await providers.list_providers(connection, project_id)
        self._drop(project_id)
        self.projects.update((project.id, project) for project in project_rows)
        self._keys.update((key.key_prefix, key) for key in key_rows)
        self.providers.update((provider.id, provider) for provider in provider_rows)
        enabled: dict[tuple[UUID, Channel], list[ProviderRow]] = {}
        for provider in provider_rows:
            if provider.enabled and not provider.deleted:
                enabled.setdefault((provider.project_id, provider.channel), []).append(provider)
        self._enabled_providers.update((scope, tuple(rows)) for scope, rows in enabled.items())

    def _drop(self, project_id: UUID | None) -> None:
        if project_id is None:
            self.projects, self._keys, self.providers, self._enabled_providers = {}, {}, {}, {}
            return
        self.projects.pop(project_id, None)
        self._keys = {prefix: key for prefix, key in self._keys.items() if key.project_id != project_id}
        self.providers = {id_: row for id_, row in self.providers.items() if row.project_id != project_id}
        self._enabled_providers = {
            scope: rows for scope, rows in self._enabled_providers.items() if scope[0] != project_id
        }
