"""Per-project quota of the dispatch queue.

Deliveries within the quota are published to Kafka immediately; the others stay in the PostgreSQL backlog, from which
the recovery loop dequeues them round-robin as the dispatch queue empties (:mod:`sluice.store.backlog`). The queue is
first in, first out, so it is short, and a project within its quota never waits behind one above it.
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
from sluice.runtime import metrics
from sluice.store import backlog
from sluice.store.db import UNAVAILABLE_ERRORS, Db

log = structlog.get_logger()

_REFRESH_INTERVAL = 0.25  # seconds


class DispatchQuota:
    """The dispatch queue as this gateway sees it: its content at the last refresh, and what was reserved since.

    Each gateway sees the others' reservations with its next refresh, so together they may exceed ``limit`` by what
    they accept between two; and what is being stored during a refresh is not counted before the next.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        metrics.DISPATCH_QUEUE_LIMIT.set(limit)
        self._clock = clock
        self._enqueued: Counter[tuple[UUID, Channel, bool]] = Counter()
        self._projects: Counter[tuple[Channel, bool]] = Counter()
        self._exhausted_at: dict[UUID, float] = {}  # project, and when its quota was last exhausted
        self._dirty = False

    def try_reserve(self, project_id: UUID, channel: Channel, delivery_class: DeliveryClass, count: int) -> bool:
        """Whether ``count`` deliveries may be enqueued now; if so they are counted as enqueued.

        Urgent deliveries have a quota of their own: a project's backlog does not delay them.
        """
        queue = (channel, delivery_class is DeliveryClass.URGENT)
        held = self._enqueued[project_id, *queue]
        share = self._limit // (self._projects[queue] + (held == 0))
        # An empty quota admits a message of any size, or one with more recipients than the limit could never go.
        if held and held + count > share:
            if delivery_class is not DeliveryClass.URGENT:
                self._exhausted_at[project_id] = self._clock()
            return False
        self._dirty = True
        self._projects[queue] += held == 0
        self._enqueued[project_id, *queue] = held + count
        return True

    def is_backlogged(self, project_id: UUID) -> bool:
        """Whether deliveries of the project would enter the backlog, unless they are urgent, as far as is known."""
        return self._clock() - self._exhausted_at.get(project_id, -inf) < _REFRESH_INTERVAL

    async def run(self, db: Db) -> None:
        """Refresh until cancelled; while nothing is enqueued no query is made."""
        while True:
            await asyncio.sleep(_REFRESH_INTERVAL)
            if self._dirty or self._enqueued or self._exhausted_at:
                try:
                    await self.refresh(db)
                except UNAVAILABLE_ERRORS as error:
                    log.warning("dispatch_queue_unreadable", error=type(error).__name__)

    async def refresh(self, db: Db) -> None:
        """Count the deliveries in the dispatch queue."""
        self._dirty = False
        held = await backlog.count_enqueued(db)
        self._enqueued = Counter({(one.project_id, one.channel, one.urgent): number for one, number in held.items()})
        self._projects = Counter((channel, urgent) for _, channel, urgent in self._enqueued)
        self._exhausted_at = {project: at for project, at in self._exhausted_at.items() if self.is_backlogged(project)}
        metrics.BACKLOGGED_PROJECTS.set(len(self._exhausted_at))
        sizes = Counter[Channel]()
        for (_, channel, _urgent), number in self._enqueued.items():
            sizes[channel] += number
        for channel in Channel:
            metrics.series(metrics.DISPATCH_QUEUE_SIZE, channel.value).set(sizes[channel])
