"""The budget of probes: one in flight at a provider and destination, with a pause between two where it is degraded.

A share of the traffic would be too many where a provider hangs (each probe waits for its time limit), and too few at
one message a minute. A probe has ended when its delivery is routed again, or when the health service has seen a result.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

IN_FLIGHT_LIMIT = timedelta(seconds=15)  # after which a probe without a known end counts no more
URGENT_AFTER = timedelta(seconds=30)  # urgent messages probe only when no other message has come for this long


class ProbeTarget(NamedTuple):
    """What a probe tests: a provider, or one destination of it.

    ``interval``: seconds between two probes. ``results``: how many the health service has seen.
    """

    provider_id: UUID
    destination: str
    probe_at: datetime | None  # of the first probe
    interval: float = 0.0
    results: int = 0

    @property
    def key(self) -> tuple[UUID, str]:
        return self.provider_id, self.destination


class _Probe(NamedTuple):
    delivery_id: UUID
    began: datetime
    results: int  # of its target, when it began


class ProbeBudget:
    """The probes that this router has sent, by provider and destination."""

    def __init__(self) -> None:
        self._last: dict[tuple[UUID, str], datetime] = {}
        self._in_flight: dict[tuple[UUID, str], _Probe] = {}
        self._probed: dict[UUID, tuple[UUID, str]] = {}  # what a delivery probes

    def allow(self, target: ProbeTarget, now: datetime, urgent: bool) -> bool:
        """Whether one more delivery may probe."""
        if target.probe_at is None:
            return False
        due = target.probe_at
        last = self._last.get(target.key)
        if last is not None:
            due = max(due, last + timedelta(seconds=target.interval))
        if now < due + URGENT_AFTER if urgent else now < due:
            return False
        in_flight = self._in_flight.get(target.key)
        if in_flight is None or now - in_flight.began >= IN_FLIGHT_LIMIT:
            return True
        return in_flight.results != target.results

    def consume(self, target: ProbeTarget, delivery_id: UUID, now: datetime) -> None:
        """Count a probe by this delivery; it is in flight until :meth:`end`."""
        self._last[target.key] = now
        self._in_flight[target.key] = _Probe(delivery_id, now, target.results)
        self._probed[delivery_id] = target.key

    def end(self, delivery_id: UUID) -> None:
        """The delivery's attempt has ended, if it was a probe."""
        key = self._probed.pop(delivery_id, None)
        if key is not None and key in self._in_flight and self._in_flight[key].delivery_id == delivery_id:
            del self._in_flight[key]
