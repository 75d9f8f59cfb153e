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
    kept_until: datetime  # from then on, it decides nothing any more
    in_flight: bool = True


class ProbeBudget:
    """The probes that this router has sent, by provider and destination."""

    def __init__(self) -> None:
        self._newest: dict[tuple[UUID, str], _Probe] = {}  # of each target, in the order of their beginnings
        self._probed: dict[UUID, tuple[UUID, str]] = {}  # what a delivery probes, while that probe is the newest

    def allow(self, target: ProbeTarget, now: datetime, urgent: bool) -> bool:
        """Whether one more delivery may probe."""
        if target.probe_at is None:
            return False
        due = target.probe_at
        newest = self._newest.get(target.key)
        if newest is not None:
            due = max(due, newest.began + timedelta(seconds=target.interval))
        if now < due + URGENT_AFTER if urgent else now < due:
            return False
        if newest is None or not newest.in_flight or now - newest.began >= IN_FLIGHT_LIMIT:
            return True
        return newest.results != target.results

    def consume(self, target: ProbeTarget, delivery_id: UUID, now: datetime) -> None:
        """Count a probe by this delivery; it is in flight until :meth:`end`."""
        self._forget(target.key)
        while self._newest:
            oldest, probe = next(iter(self._newest.items()))
            if now < probe.kept_until:
                break
            self._forget(oldest)
        kept_until = now + max(IN_FLIGHT_LIMIT, timedelta(seconds=target.interval))
        self._newest[target.key] = _Probe(delivery_id, now, target.results, kept_until)
        self._probed[delivery_id] = target.key

    def _forget(self, key: tuple[UUID, str]) -> None:
        # A probe that was accepted is not routed again: its entry would stay.
        probe = self._newest.pop(key, None)
        if probe is not None and self._probed.get(probe.delivery_id) == key:
            del self._probed[probe.delivery_id]

    def end(self, delivery_id: UUID) -> None:
        """The delivery's attempt has ended, if it was a probe."""
        key = self._probed.pop(delivery_id, None)
        if key is not None:
            self._newest[key] = self._newest[key]._replace(in_flight=False)
