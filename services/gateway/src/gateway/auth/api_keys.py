"""Authentication by the project's API key, for HTTP requests and Kafka records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.auth.principal import KeyPrincipal
from gateway.errors import Unauthorized, Unavailable
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.store import api_keys
from sluice.store.api_keys import ApiKey, key_prefix, parse_key_prefix
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool

KEY_HEADER = "x-sendpipe-key"
_DB_TIMEOUT = 0.8  # seconds for the look-up of a key that the configuration cache does not contain
_MAX_LOOKUPS = 1_000  # that wait at once
_UNCHECKED = "The API key could not be checked. Retry later."


class ApiKeyAuthenticator:
    """Checks keys in memory; well-formed keys that the cache does not contain are looked up.

    The look-ups of all requests share one query at a time, so that unknown keys cannot take the connections that
    accept messages. A key that is found serves its request only: the cache contains it when its notification arrives,
    and a key that is revoked meanwhile cannot get in.
    """

    def __init__(self, config: ConfigCache, pool: Pool) -> None:
        self._config = config
        self._pool = pool
        self._lookups: Batcher[str, ApiKey | None] = Batcher(
            self._find_all, name="key-lookups", size=_MAX_LOOKUPS, parallel=1, pace=0.01, limit=_MAX_LOOKUPS
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ApiKeyAuthenticator]:
        """Look keys up until the block ends."""
        async with self._lookups.running():
            yield self

    async def authenticate(self, text: str | None) -> KeyPrincipal:
        """The principal of the key ``text``.

        Raises:
            Unauthorized: there is no key, or it is not valid; the message does not say why.
            Unavailable: the key is not cached and PostgreSQL does not answer.
        """
        if not text:
            raise Unauthorized("The X-SendPipe-Key header is missing.")
        key = self._config.key(key_prefix(text)) or await self._find(text)
        if key is None or not key.matches(text):
            raise Unauthorized("The API key is not valid.")
        return KeyPrincipal(key.id, key.project_id, key.is_test)

    async def _find(self, text: str) -> ApiKey | None:
        prefix = parse_key_prefix(text)
        if prefix is None:
            return None
        try:
            async with asyncio.timeout(_DB_TIMEOUT):
                return await self._lookups.submit(prefix)
        except QueueFullError as error:
            raise Unavailable(_UNCHECKED) from error
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable(_UNCHECKED) from error

    async def _find_all(self, prefixes: Sequence[str]) -> list[ApiKey | None]:
        found = await api_keys.find_keys(self._pool, prefixes)
        return [found.get(prefix) for prefix in prefixes]
