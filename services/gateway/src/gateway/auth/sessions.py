"""Authentication of people by their session, in memory; PostgreSQL is asked once a minute for each session."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple
from uuid import UUID

from gateway.errors import Unauthorized, Unavailable
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.runtime.clock import utc_now
from sluice.store import sessions
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.secret_tokens import SESSION, hash_token, is_token
from sluice.store.sessions import ProjectRole, Session, SessionKey

_MAX_AGE = 60.0  # seconds for which a session is served from memory; then its use is stored and its roles read again
_MAX_CACHED = 10_000  # sessions
_DB_TIMEOUT = 2.0  # seconds for a look-up
_MAX_LOOKUPS = 1_000  # that wait at once
_UNCHECKED = "The session could not be checked. Retry later."
_INVALID = "The session is not valid: log in again."


class _Cached(NamedTuple):
    session: Session
    read_at: float  # monotonic


class SessionAuthenticator:
    """Checks session tokens.

    Look-ups share one statement at a time. A session is removed from memory by the notification of its end or of a
    change of its user's roles. A look-up that began before a notification is not kept: it may have read the state
    before the change.
    """

    def __init__(self, config: ConfigCache, pool: Pool) -> None:
        self._pool = pool
        self._cached: OrderedDict[SessionKey, _Cached] = OrderedDict()
        self._generation = 0  # of the notifications
        self._lookups: Batcher[SessionKey, Session | None] = Batcher(
            self._find_all, name="session-lookups", size=_MAX_LOOKUPS, parallel=1, pace=0.01, limit=_MAX_LOOKUPS
        )
        config.watch_accounts(self.forget)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SessionAuthenticator]:
        """Look sessions up until the block ends."""
        async with self._lookups.running():
            yield self

    def forget(self, user_id: UUID | None) -> None:
        """Read the sessions and roles of a user again before their next use; of all users if None."""
        self._generation += 1
        if user_id is None:
            self._cached.clear()
            return
        for key in [one for one, cached in self._cached.items() if cached.session.user_id == user_id]:
            del self._cached[key]

    async def authenticate(self, token: str, *, project: str | None = None) -> Session:
        """The session of ``token``. A session in memory without a role in ``project``, a slug, is read again: the
        project may be new.

        Raises:
            Unauthorized: the token is not that of a valid session; the message does not say why.
            Unavailable: the session is not in memory and PostgreSQL does not answer.
        """
        if not is_token(SESSION, token):
            raise Unauthorized(_INVALID)
        fits = None if project is None else lambda role: role.slug == project
        return await self._session(hash_token(token), fits)

    async def authenticate_id(self, session_id: UUID, *, project_id: UUID | None = None) -> Session:
        """The session with this id, which the caller has proved to own; ``project_id`` as in :meth:`authenticate`.

        Raises:
            Unauthorized: it has ended.
            Unavailable: the session is not in memory and PostgreSQL does not answer.
        """
        fits = None if project_id is None else lambda role: role.project_id == project_id
        return await self._session(session_id, fits)

    async def _session(self, key: SessionKey, fits: Callable[[ProjectRole], bool] | None) -> Session:
        cached = self._cached.get(key)
        if cached is not None and _serves(cached, fits):
            return cached.session
        found = await self._find(key)
        if found is None:
            raise Unauthorized(_INVALID)
        return found

    async def _find(self, key: SessionKey) -> Session | None:
        generation = self._generation
        try:
            async with asyncio.timeout(_DB_TIMEOUT):
                found = await self._lookups.submit(key)
        except QueueFullError as error:
            raise Unavailable(_UNCHECKED) from error
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable(_UNCHECKED) from error
        if found is None:
            self._cached.pop(key, None)
        elif generation == self._generation:
            self._cached[key] = _Cached(found, monotonic())
            self._cached.move_to_end(key)
            if len(self._cached) > _MAX_CACHED:
                self._cached.popitem(last=False)
        return found

    async def _find_all(self, keys: Sequence[SessionKey]) -> list[Session | None]:
        found = await sessions.find_sessions(self._pool, keys, now=utc_now())
        return [found.get(key) for key in keys]


def _serves(cached: _Cached, fits: Callable[[ProjectRole], bool] | None) -> bool:
    session = cached.session
    if monotonic() >= cached.read_at + _MAX_AGE or session.expires_at <= utc_now():
        return False
    return fits is None or any(fits(role) for role in session.roles)
