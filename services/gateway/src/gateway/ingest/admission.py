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

_ADJUST_INTERVAL = 0.1  # seconds
_TARGET_LATENCY = 0.05  # seconds in which at least the quickest request of a look must have been answered
_DEGRADED_FACTOR = 3.0  # times the quickest answer in quiet times: then answers begin to come late
_MIN_DEGRADED_LATENCY = 0.012  # seconds
_BASELINE_DECAY = 1.0002  # per look: what was quick is forgotten by and by, in ten minutes three times
_RECENT = 5.0  # seconds
_MIN_LIMIT = 64  # open requests that are always allowed: fewer do not fill the commits that they share
_MAX_LIMIT = 100_000.0


class AdmissionController:
    """The open requests of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: Counter[UUID] = Counter()
        self._recent_projects: dict[UUID, float] = {}  # project, and when it last opened a request
        self._open_total = 0
        self._limit = _MAX_LIMIT
        self._min_latency = inf
        self._baseline_latency = inf  # what it is in quiet times
        self._degraded = False
        self._adjust_at = clock() + _ADJUST_INTERVAL

    def acquire(self, project_id: UUID, *, backlogged: bool = False) -> float | None:
        """Open a request; the time to give to :meth:`leave`, or None if it must be refused.

        ``piles``: what the project sends would only wait in the record now.
        """
        now = self._clock()
        self._recent_projects[project_id] = now
        if backlogged and self._degraded and self._open_total and len(self._recent_projects) > 1:
            return None
        if self._open_total >= self._limit and self._open[project_id] >= max(1.0, self._fair_share()):
            return None
        self._open[project_id] += 1
        self._open_total += 1
        return now

    def _fair_share(self) -> float:
        return self._limit / len(self._recent_projects) if len(self._recent_projects) > 1 else inf

    def release(self, project_id: UUID, acquired_at: float) -> None:
        """The request was answered."""
        now = self._clock()
        self._min_latency = min(self._min_latency, now - acquired_at)
        self._open_total -= 1
        self._open[project_id] -= 1
        if not self._open[project_id]:
            del self._open[project_id]
        if now >= self._adjust_at:
            self._adjust(now)

    def _adjust(self, now: float) -> None:
        self._recent_projects = {project: at for project, at in self._recent_projects.items() if now - at < _RECENT}
        if self._min_latency > _TARGET_LATENCY:
            self._limit = max(_MIN_LIMIT, 0.8 * min(self._limit, self._open_total))
        else:
            self._limit = min(_MAX_LIMIT, self._limit * 1.1 + 8)
        self._baseline_latency = min(self._baseline_latency * _BASELINE_DECAY, self._min_latency)
        self._degraded = self._min_latency > min(
            _TARGET_LATENCY, max(_MIN_DEGRADED_LATENCY, _DEGRADED_FACTOR * self._baseline_latency)
        )
        self._min_latency = inf
        self._adjust_at = now + _ADJUST_INTERVAL
