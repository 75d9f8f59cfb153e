"""Our policy: the functions of the health service, the router and the worker, with the clock passed in."""

from __future__ import annotations

from random import Random
from uuid import UUID

from bench.routing.policies import IDS, ORDER, SPACE, Static, at_time
from bench.routing.world import Message, World
from health.monitor import HealthMonitor
from sluice.bus.messages import AttemptReport
from sluice.delivery.bulkhead import Bulkhead
from sluice.health.breaker import HealthThresholds
from sluice.model.message import Channel
from sluice.model.routing_policy import RoutingPolicy

SLOTS = 100  # calls in flight at a provider
QUEUE_TIMEOUT = 2.0  # seconds


class Ours(Static):
    """The running system's default policy, with one worker and one router."""

    policy = RoutingPolicy.ADAPTIVE

    def __init__(self, world: World, seed: int = 0) -> None:
        super().__init__(world)
        self._monitor = HealthMonitor(HealthThresholds(), jitter=Random(seed))
        self._bulkheads: dict[str, Bulkhead[int]] = {name: Bulkhead(SLOTS) for name in ORDER}
        self._reports: list[AttemptReport] = []
        self._status: dict[UUID, str] = {}

    def started(self, name: str, message: Message, now: float) -> None:
        bulkhead = self._bulkheads[name]
        bulkhead.enqueue(message.number, now, urgent=False)
        bulkhead.acquire(now)
        bulkhead.start_call(message.number, now)

    def ended(self, name: str, message: Message, outcome: str, duration: float, now: float) -> None:
        bulkhead = self._bulkheads[name]
        bulkhead.release(message.number, now)
        if outcome != "unknown":
            bulkhead.record_latency(duration)
        self._reports.append(_report(name, outcome, now, duration, message.destination))

    def tick(self, now: float) -> None:
        for name, bulkhead in self._bulkheads.items():
            bulkhead.check(now, QUEUE_TIMEOUT)
            if bulkhead.report(now, QUEUE_TIMEOUT) is not None:
                self._reports.append(_report(name, "unresponsive", now))
        reports, self._reports = self._reports, []
        if reports:
            self._monitor.record_attempts(reports, at_time(now))
        for health in self._monitor.changed_statuses(at_time(now)):
            before = self._status.get(health.provider_id, "healthy")
            if before != "unhealthy" and health.status == "unhealthy":
                self._ejections.append(now)
            self._status[health.provider_id] = health.status
            self._health[health.provider_id] = health


def _report(name: str, outcome: str, now: float, duration: float | None = None, destination: str = "") -> AttemptReport:
    return AttemptReport.model_construct(
        project_id=SPACE,
        channel=Channel.SMS,
        occurred_at=at_time(now),
        provider_id=IDS[name],
        outcome=outcome,
        scope=None,
        retry_after_s=None,
        duration_ms=None if duration is None else int(1000 * duration),
        destination=destination,
    )
