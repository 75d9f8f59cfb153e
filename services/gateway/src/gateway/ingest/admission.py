"""Admission control: an adaptive concurrency limit (AIMD) with fair shares per project.

When even the fastest request of the last 100 ms took longer than 50 ms, the limit is multiplied by 0.8; otherwise it
grows by 10 %. Above the limit, a project with more open requests than ``limit / active projects`` is refused with 429.
A single active project is never refused: its requests delay only one another.

Before that, when latency begins to rise (three times the baseline), a project above its dispatch quota is refused:
accepting more of its deliveries would slow down the delivery of those that are in the backlog.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from math import inf
from uuid import UUID

from sluice.runtime import metrics

_ADJUST_INTERVAL = 0.1  # seconds
_TARGET_LATENCY = 0.05  # seconds that the fastest request of an interval may take
_DEGRADED_FACTOR = 3.0  # times the baseline latency from which the gateway counts as degraded
_MIN_DEGRADED_LATENCY = 0.012  # seconds
_BASELINE_DECAY = 1.0002  # per interval: the baseline triples in about ten minutes without a faster request
_RECENT = 5.0  # seconds for which a project without a new request counts as active
_MIN_LIMIT = 64  # concurrent requests that are always admitted: fewer do not fill the commits that they share
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
        self._baseline_latency = inf  # without load
        self._degraded = False
        self._adjust_at = clock() + _ADJUST_INTERVAL
        metrics.ADMISSION_LIMIT.set(self._limit)
        for reason in ("backlogged", "over_limit"):  # a rate needs the zero before the first event
            metrics.series(metrics.ADMISSION_REJECTIONS, reason)

    def acquire(self, project_id: UUID, *, backlogged: bool = False) -> float | None:
        """Open a request; the time to pass to :meth:`release`, or None if the request must be refused.

        ``backlogged``: the deliveries of the request would enter the backlog.
        """
        now = self._clock()
        self._recent_projects[project_id] = now
        if backlogged and self._degraded and self._open_total and len(self._recent_projects) > 1:
            metrics.series(metrics.ADMISSION_REJECTIONS, "backlogged").inc()
            return None
        if self._open_total >= self._limit and self._open[project_id] >= max(1.0, self._fair_share()):
            metrics.series(metrics.ADMISSION_REJECTIONS, "over_limit").inc()
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
        metrics.ADMISSION_LIMIT.set(self._limit)
        self._baseline_latency = min(self._baseline_latency * _BASELINE_DECAY, self._min_latency)
        self._degraded = self._min_latency > min(
            _TARGET_LATENCY, max(_MIN_DEGRADED_LATENCY, _DEGRADED_FACTOR * self._baseline_latency)
        )
        self._min_latency = inf
        self._adjust_at = now + _ADJUST_INTERVAL
