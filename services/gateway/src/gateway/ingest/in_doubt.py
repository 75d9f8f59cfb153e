"""Messages whose commit is in doubt: the caller got 503, so nothing may have been accepted."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import structlog

from sluice.runtime import failpoints
from sluice.runtime.clock import utc_now
from sluice.store import cancellation
from sluice.store.db import UNAVAILABLE_ERRORS, Pool, rows_of

log = structlog.get_logger()

_TTL = 20.0  # seconds, with PostgreSQL available, after which a commit that was in doubt cannot become visible
_INTERVAL = 0.5  # seconds


class InDoubtMessages:
    """Revokes messages that were committed although the caller was refused."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # By message and project, the monotonic time until which it may appear.
        self._until: dict[tuple[UUID, UUID], float] = {}

    def add(self, message_id: UUID, project_id: UUID) -> None:
        """Revoke the message should it appear."""
        self._until[message_id, project_id] = time.monotonic() + _TTL

    async def run(self) -> None:
        """Look for them until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            if self._until:
                await self._revoke()

    async def _revoke(self) -> None:
        try:
            assert failpoints.hit("revoke.before_write")
            async with rows_of(self._pool, {project_id for _, project_id in self._until}) as db:
                message_ids = [message_id for message_id, _ in self._until]
                revoked = await cancellation.revoke_in_doubt(db, message_ids, now=utc_now())
        except UNAVAILABLE_ERRORS:
            self._until = dict.fromkeys(self._until, time.monotonic() + _TTL)
            return
        assert failpoints.hit("revoke.written")
        if revoked:
            log.info("in_doubt_message_revoked", deliveries=revoked)
        now = time.monotonic()
        self._until = {one: until for one, until in self._until.items() if until > now}
