"""Half-open probe budget: at most five probes per provider and 10 s window, and five in flight, independent of traffic.

A share of the traffic would be too many where a provider hangs (each probe waits for its time limit), and too few at
one message a minute.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.bus.messages import ProviderHealth

MAX_PROBES = 5  # more than a recovery needs, because a rejected recipient proves nothing
WINDOW_LENGTH = timedelta(seconds=10)
IN_FLIGHT_LIMIT = timedelta(seconds=60)  # after which a probe without a known end counts no more


class _Window(NamedTuple):
    probe_at: datetime | None  # of the health status that allowed the probes
    started_at: datetime
    used: int


class ProbeBudget:
    """The probes that this router has sent, by provider."""

    def __init__(self) -> None:
        self._windows: dict[UUID, _Window] = {}
        self._in_flight: dict[UUID, dict[UUID, datetime]] = {}  # by provider and delivery: when the probe began
        self._probed: dict[UUID, UUID] = {}  # the provider that a delivery probes

    def allow(self, health: ProviderHealth, now: datetime) -> bool:
        """Whether one more delivery may probe this unhealthy provider."""
        if health.probe_at is None or health.probe_at > now:
            return False
        if self._count_in_flight(health.provider_id, now) >= MAX_PROBES:
            return False
        return self._window(health, now).used < MAX_PROBES

    def consume(self, health: ProviderHealth, delivery_id: UUID, now: datetime) -> None:
        """Count a probe by this delivery; it is in flight until :meth:`end`."""
        window = self._window(health, now)
        self._windows[health.provider_id] = window._replace(used=window.used + 1)
        self._in_flight.setdefault(health.provider_id, {})[delivery_id] = now
        self._probed[delivery_id] = health.provider_id

    def end(self, delivery_id: UUID) -> None:
        """The delivery's attempt has ended, if it was a probe."""
        provider_id = self._probed.pop(delivery_id, None)
        if provider_id is not None:
            self._in_flight.get(provider_id, {}).pop(delivery_id, None)

    def _count_in_flight(self, provider_id: UUID, now: datetime) -> int:
        probes = self._in_flight.get(provider_id)
        if not probes:
            return 0
        for delivery_id in [one for one, began in probes.items() if now - began >= IN_FLIGHT_LIMIT]:
            self.end(delivery_id)
        return len(probes)

    def _window(self, health: ProviderHealth, now: datetime) -> _Window:
        window = self._windows.get(health.provider_id)
        if window is None or window.probe_at != health.probe_at or now - window.started_at >= WINDOW_LENGTH:
            return _Window(health.probe_at, now, 0)
        return window
