"""Who is asking: a project API key, from the header of either door."""

from __future__ import annotations

import asyncio

from gateway.errors import Unauthorized, Unavailable
from sluice.store import api_keys
from sluice.store.api_keys import ApiKey, key_prefix, parse_key_prefix
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool

KEY_HEADER = "x-sendpipe-key"
_DB_TIMEOUT = 0.8  # seconds to ask Postgres for a key that memory does not know yet


class ApiKeyAuthenticator:
    """Checks keys against memory; only a well-formed one that is unknown there costs a look into Postgres."""

    def __init__(self, config: ConfigCache, pool: Pool) -> None:
        self._config = config
        self._pool = pool

    async def authenticate(self, text: str | None) -> ApiKey:
        """The key behind ``text``.

        Raises:
            Unauthorized: there is none, or it is not a valid key; which of it is not told.
        """
        if not text:
            raise Unauthorized("the X-SendPipe-Key header is missing")
        key = self._config.key(key_prefix(text)) or await self._find(text)
        if key is None or not key.matches(text):
            raise Unauthorized("the API key is not valid")
        return key

    async def _find(self, text: str) -> ApiKey | None:
        lookup = parse_key_prefix(text)
        if lookup is None:
            return None
        try:
            async with asyncio.timeout(_DB_TIMEOUT):
                found = await api_keys.find_key_by_prefix(self._pool, lookup)
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable("the API key could not be checked; try again") from error
        if found is not None:
            self._config.add_key(found)
        return found
