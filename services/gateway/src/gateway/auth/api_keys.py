"""Who is asking: a project API key, from the header of either door."""

from __future__ import annotations

import asyncio

from gateway.errors import Unauthorized, Unavailable
from sluice.store import configuration
from sluice.store.config_cache import Configuration
from sluice.store.configuration import ApiKey, lookup_of, public_part
from sluice.store.db import UNAVAILABLE, Pool

KEY_HEADER = "x-sendpipe-key"
_WAIT = 0.8  # seconds to ask Postgres for a key that memory does not know yet


class Keys:
    """Checks keys against memory; only a well-formed one that is unknown there costs a look into Postgres."""

    def __init__(self, configuration: Configuration, pool: Pool) -> None:
        self._configuration = configuration
        self._pool = pool

    async def check(self, text: str | None) -> ApiKey:
        """The key behind ``text``.

        Raises:
            Unauthorized: there is none, or it is not a valid key; which of it is not told.
        """
        if not text:
            raise Unauthorized("the X-SendPipe-Key header is missing")
        key = self._configuration.key(public_part(text)) or await self._find(text)
        if key is None or not key.admits(text):
            raise Unauthorized("the API key is not valid")
        return key

    async def _find(self, text: str) -> ApiKey | None:
        lookup = lookup_of(text)
        if lookup is None:
            return None
        try:
            async with asyncio.timeout(_WAIT):
                found = await configuration.key_by_lookup(self._pool, lookup)
        except UNAVAILABLE as error:
            raise Unavailable("the API key could not be checked; try again") from error
        if found is not None:
            self._configuration.learn_key(found)
        return found
