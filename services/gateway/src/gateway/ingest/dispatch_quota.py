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

from sluice.model.message import Channel, Class
from sluice.store import backlog
from sluice.store.db import UNAVAILABLE, Db

log = structlog.get_logger()

_LOOK_EVERY = 0.25  # seconds


class Room:
    """What this gateway knows of the conveyor: what it held at the last look, and what it put on it since.

    Several gateways see each other's with the next look, so together they may exceed ``size`` by what they accept
    between two looks; and what is being recorded during a look is not counted before the next.
    """

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._held: Counter[tuple[UUID, Channel, bool]] = Counter()
        self._projects: Counter[tuple[Channel, bool]] = Counter()
        self._full_at: dict[UUID, float] = {}  # project, and when it last found no room
        self._moved = False

    def take(self, project_id: UUID, channel: Channel, class_: Class, count: int) -> bool:
        """Whether ``count`` deliveries go on the conveyor now; if so they are counted as being there.

        Urgent ones have shares of their own: a project's pile does not hold up what it calls urgent.
        """
        lane = (channel, class_ is Class.URGENT)
        held = self._held[project_id, *lane]
        share = self._size // (self._projects[lane] + (held == 0))
        # Alone, even a message to more recipients than there is room for must be able to go.
        if held and held + count > share:
            if class_ is not Class.URGENT:
                self._full_at[project_id] = self._clock()
            return False
        self._moved = True
        self._projects[lane] += held == 0
        self._held[project_id, *lane] = held + count
        return True

    def piles(self, project_id: UUID) -> bool:
        """Whether what the project sends would wait in the record, unless it is urgent, as far as is known."""
        return self._clock() - self._full_at.get(project_id, -inf) < _LOOK_EVERY

    async def keep(self, db: Db) -> None:
        """Look at the conveyor for ever; at rest nobody is asked."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self._moved or self._held:
                try:
                    await self.look(db)
                except UNAVAILABLE as error:
                    log.warning("conveyor_unknown", error=type(error).__name__)

    async def look(self, db: Db) -> None:
        """Count what is on the conveyor now."""
        self._moved = False
        held = await backlog.on_conveyor(db)
        self._held = Counter({(one.project_id, one.channel, one.urgent): number for one, number in held.items()})
        self._projects = Counter((channel, urgent) for _, channel, urgent in self._held)
        self._full_at = {project: at for project, at in self._full_at.items() if self.piles(project)}
