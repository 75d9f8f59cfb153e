"""Authentication by the project's API key, for HTTP requests and Kafka records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from gateway.auth.principal import KeyPrincipal
from gateway.errors import Unauthorized, Unavailable
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.runtime.clock import utc_now
from sluice.store import api_keys
from sluice.store.api_keys import ApiKey, is_key_prefix, key_prefix, parse_key_prefix
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.record_signatures import (
    IDEMPOTENCY_HEADER,
    KEY_ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    InvalidRecordSignatureError,
    verify_record,
)

KEY_HEADER = "x-sendpipe-key"
SIGNED_HEADERS = (KEY_ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER, IDEMPOTENCY_HEADER)
"""The headers of a signed Kafka record that authentication reads."""
_DB_TIMEOUT = 0.8  # seconds for the look-up of a key that the configuration cache does not contain
_MAX_LOOKUPS = 1_000  # that wait at once
_UNCHECKED = "The API key could not be checked. Retry later."


class ApiKeyAuthenticator:
    """Checks keys in memory; well-formed keys that the cache does not contain are looked up.

    The look-ups of all requests share one query at a time, so that unknown keys cannot take the connections that
    accept messages. A key that is found serves its request only: the cache contains it when its notification arrives,
    and a key that is revoked meanwhile cannot get in.
    """

    def __init__(self, config: ConfigCache, pool: Pool, *, accepts_plain_keys: bool = True) -> None:
        self._config = config
        self._accepts_plain_keys = accepts_plain_keys
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
        key = self._config.key(key_prefix(text)) or await self._find(parse_key_prefix(text))
        if key is None or not key.matches(text):
            raise Unauthorized("The API key is not valid.")
        return KeyPrincipal(key.id, key.project_id, key.is_test)

    async def authenticate_record(self, headers: Mapping[str, str | None], body: bytes) -> KeyPrincipal:
        """The principal of a Kafka record: by its signature, or by the key in its headers where that is allowed.

        Raises:
            Unauthorized: there is neither, or it is not valid.
            Unavailable: the key is not cached and PostgreSQL does not answer.
        """
        if SIGNATURE_HEADER not in headers:
            if not self._accepts_plain_keys:
                raise Unauthorized("Records with an API key are not accepted here: they have to be signed with it.")
            return await self.authenticate(headers.get(KEY_HEADER))
        key_id = headers.get(KEY_ID_HEADER) or ""
        key = self._config.key(key_id) or await self._find(key_id if is_key_prefix(key_id) else None)
        if key is None:
            raise Unauthorized("The API key of the signature is not valid.")
        try:
            verify_record(headers, body, key, now=utc_now())
        except InvalidRecordSignatureError as error:
            raise Unauthorized(f"The record is not signed: {error}.") from None
        return KeyPrincipal(key.id, key.project_id, key.is_test)

    async def _find(self, prefix: str | None) -> ApiKey | None:
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
