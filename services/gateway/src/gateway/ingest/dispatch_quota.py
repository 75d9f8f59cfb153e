"""Whose deliveries go straight on to the conveyor, and whose wait in the record for their turn.

The conveyor is first in, first out, so it is kept short, and each project has a share of it. Who is within his share
is never held up by those who are not: their deliveries are recorded like any other, and the recovery loop puts them
on the conveyor in turns as it empties (:mod:`sluice.store.backlog`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from math import inf
from uuid import UUID

import structlog

from sluice.model.message import Channel, DeliveryClass
from sluice.store import backlog
from sluice.store.db import UNAVAILABLE_ERRORS, Db

log = structlog.get_logger()

_REFRESH_INTERVAL = 0.25  # seconds


class DispatchQuota:
    """What this gateway knows of the conveyor: what it held at the last look, and what it put on it since.

    Several gateways see each other's with the next look, so together they may exceed ``size`` by what they accept
    between two looks; and what is being recorded during a look is not counted before the next.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._enqueued: Counter[tuple[UUID, Channel, bool]] = Counter()
        self._projects: Counter[tuple[Channel, bool]] = Counter()
        self._exhausted_at: dict[UUID, float] = {}  # project, and when it last found no room
        self._dirty = False

    def try_reserve(self, project_id: UUID, channel: Channel, delivery_class: DeliveryClass, count: int) -> bool:
        """Whether ``count`` deliveries go on the conveyor now; if so they are counted as being there.

        Urgent ones have shares of their own: a project's pile does not hold up what it calls urgent.
        """
        bulkhead = (channel, delivery_class is DeliveryClass.URGENT)
        held = self._enqueued[project_id, *bulkhead]
        share = self._limit // (self._projects[bulkhead] + (held == 0))
        # Alone, even a message to more recipients than there is room for must be able to go.
        if held and held + count > share:
            if delivery_class is not DeliveryClass.URGENT:
                self._exhausted_at[project_id] = self._clock()
            return False
        self._dirty = True
        self._projects[bulkhead] += held == 0
        self._enqueued[project_id, *bulkhead] = held + count
        return True

    def is_backlogged(self, project_id: UUID) -> bool:
        """Whether what the project sends would wait in the record, unless it is urgent, as far as is known."""
        return self._clock() - self._exhausted_at.get(project_id, -inf) < _REFRESH_INTERVAL

    async def run(self, db: Db) -> None:
        """Look at the conveyor for ever; at rest nobody is asked."""
        while True:
            await asyncio.sleep(_REFRESH_INTERVAL)
            if self._dirty or self._enqueued:
                try:
                    await self.refresh(db)
                except UNAVAILABLE_ERRORS as error:
                    log.warning("dispatch_queue_unreadable", error=type(error).__name__)

    async def refresh(self, db: Db) -> None:
        """Count what is on the conveyor now."""
        self._dirty = False
        held = await backlog.count_enqueued(db)
        self._enqueued = Counter({(one.project_id, one.channel, one.urgent): number for one, number in held.items()})
        self._projects = Counter((channel, urgent) for _, channel, urgent in self._enqueued)
        self._exhausted_at = {project: at for project, at in self._exhausted_at.items() if self.is_backlogged(project)}
