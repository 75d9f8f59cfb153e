"""Who is tried again while it is out, and how often: a few messages at a time, whatever the traffic.

A share of the traffic would be too much where a provider hangs (each of its probes waits for the deadline) and too
little where there is one message a minute.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.bus.messages import ProviderHealth

PROBES_PER_WINDOW = 5  # more than it takes to come back, because a rejected recipient proves nothing
_WINDOW_LENGTH = timedelta(seconds=10)  # as long as a call may take


class _Window(NamedTuple):
    probe_at: datetime | None  # of the verdict that allowed them
    started_at: datetime
    used: int


class ProbeBudget:
    """The probes that this router has sent."""

    def __init__(self) -> None:
        self._windows: dict[UUID, _Window] = {}

    def allow(self, health: ProviderHealth, now: datetime) -> bool:
        """Whether one more message may try this provider, which is out."""
        if health.probe_at is None or health.probe_at > now:
            return False
        return self._window(health, now).used < PROBES_PER_WINDOW

    def consume(self, health: ProviderHealth, now: datetime) -> None:
        """A message is on its way to it."""
        sent = self._window(health, now)
        self._windows[health.provider_id] = sent._replace(used=sent.used + 1)

    def _window(self, health: ProviderHealth, now: datetime) -> _Window:
        sent = self._windows.get(health.provider_id)
        if sent is None or sent.probe_at != health.probe_at or now - sent.started_at >= _WINDOW_LENGTH:
            return _Window(health.probe_at, now, 0)
        return sent
