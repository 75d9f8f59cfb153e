"""Half-open probe budget: at most five probes per provider and 10 s window, independent of traffic.

A share of the traffic would be too many where a provider hangs (each probe waits for its timeout), and too few at one
message a minute.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.bus.messages import ProviderHealth

PROBES_PER_WINDOW = 5  # more than a recovery needs, because a rejected recipient proves nothing
_WINDOW_LENGTH = timedelta(seconds=10)  # the longest call


class _Window(NamedTuple):
    probe_at: datetime | None  # of the health status that allowed the probes
    started_at: datetime
    used: int


class ProbeBudget:
    """The probes that this router has sent, by provider."""

    def __init__(self) -> None:
        self._windows: dict[UUID, _Window] = {}

    def allow(self, health: ProviderHealth, now: datetime) -> bool:
        """Whether one more delivery may probe this unhealthy provider."""
        if health.probe_at is None or health.probe_at > now:
            return False
        return self._window(health, now).used < PROBES_PER_WINDOW

    def consume(self, health: ProviderHealth, now: datetime) -> None:
        """Count a probe."""
        window = self._window(health, now)
        self._windows[health.provider_id] = window._replace(used=window.used + 1)

    def _window(self, health: ProviderHealth, now: datetime) -> _Window:
        window = self._windows.get(health.provider_id)
        if window is None or window.probe_at != health.probe_at or now - window.started_at >= _WINDOW_LENGTH:
            return _Window(health.probe_at, now, 0)
        return window
