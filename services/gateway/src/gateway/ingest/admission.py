"""Who is asked to come again when more requests come than this gateway can answer in time.

A gateway that lets everybody in while it cannot keep up answers everybody late. So when for a while not even the
quickest request was answered in time, the number of open requests is limited, and each project that was here lately has
a share of it: who has more open than his share hears 429, the others notice nothing. A project alone is never refused:
it waits behind itself only. The limit falls while answers stay late and rises again while they come in time (additive
increase, multiplicative decrease), and nobody has to guess it.

Before that, where answers only begin to come late, whoever has deliveries waiting in the record for room on the
conveyor is asked to come again: accepting more of them would take from delivering those that are there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from math import inf
from uuid import UUID

_LOOK_EVERY = 0.1  # seconds
_IN_TIME = 0.05  # seconds in which at least the quickest request of a look must have been answered
_SLOW = 3.0  # times the quickest answer in quiet times: then answers begin to come late
_LEAST_SLOW = 0.012  # seconds
_FORGET = 1.0002  # per look: what was quick is forgotten by and by, in ten minutes three times
_LATELY = 5.0  # seconds
_LEAST = 64  # open requests that are always allowed: fewer do not fill the commits that they share
_MOST = 100_000.0


class Crowd:
    """The open requests of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: Counter[UUID] = Counter()
        self._seen: dict[UUID, float] = {}  # project, and when it last opened a request
        self._all = 0
        self._limit = _MOST
        self._quickest = inf
        self._quick = inf  # what it is in quiet times
        self._slow = False
        self._look_at = clock() + _LOOK_EVERY

    def enter(self, project_id: UUID, *, piles: bool = False) -> float | None:
        """Open a request; the time to give to :meth:`leave`, or None if it must be refused.

        ``piles``: what the project sends would only wait in the record now.
        """
        now = self._clock()
        self._seen[project_id] = now
        if piles and self._slow and self._all and len(self._seen) > 1:
            return None
        if self._all >= self._limit and self._open[project_id] >= max(1.0, self._share()):
            return None
        self._open[project_id] += 1
        self._all += 1
        return now

    def _share(self) -> float:
        return self._limit / len(self._seen) if len(self._seen) > 1 else inf

    def leave(self, project_id: UUID, entered: float) -> None:
        """The request was answered."""
        now = self._clock()
        self._quickest = min(self._quickest, now - entered)
        self._all -= 1
        self._open[project_id] -= 1
        if not self._open[project_id]:
            del self._open[project_id]
        if now >= self._look_at:
            self._look(now)

    def _look(self, now: float) -> None:
        self._seen = {project: at for project, at in self._seen.items() if now - at < _LATELY}
        if self._quickest > _IN_TIME:
            self._limit = max(_LEAST, 0.8 * min(self._limit, self._all))
        else:
            self._limit = min(_MOST, self._limit * 1.1 + 8)
        self._quick = min(self._quick * _FORGET, self._quickest)
        self._slow = self._quickest > min(_IN_TIME, max(_LEAST_SLOW, _SLOW * self._quick))
        self._quickest = inf
        self._look_at = now + _LOOK_EVERY
