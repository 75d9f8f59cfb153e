"""Authentication by the project's API key, for HTTP requests and Kafka records."""

from __future__ import annotations

import asyncio

from gateway.auth.principal import KeyPrincipal
from gateway.errors import Unauthorized, Unavailable
from sluice.store import api_keys
from sluice.store.api_keys import ApiKey, key_prefix, parse_key_prefix
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool

KEY_HEADER = "x-sendpipe-key"
_DB_TIMEOUT = 0.8  # seconds for the look-up of a key that the configuration cache does not contain


class ApiKeyAuthenticator:
    """Checks keys in memory; only a well-formed key that the cache does not contain costs a query."""

    def __init__(self, config: ConfigCache, pool: Pool) -> None:
        self._config = config
        self._pool = pool

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
                found = await api_keys.find_key_by_prefix(self._pool, prefix)
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable("The API key could not be checked: the database is unavailable. Retry later.") from error
        if found is not None:
            self._config.add_key(found)
        return found
