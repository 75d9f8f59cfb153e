"""Our policy: the functions of the health service, the router and the worker, with the clock passed in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid5

from bench.routing.policies import ORDER
from bench.routing.world import Message, World
from health.monitor import HealthMonitor
from sluice.bus.messages import AttemptReport, DeliveryTask, ProviderHealth
from sluice.delivery.bulkhead import Bulkhead
from sluice.health.breaker import HealthThresholds
from sluice.model.candidate import Candidate
from sluice.model.message import Channel, DeliveryClass
from sluice.routing.probe_budget import ProbeBudget
from sluice.routing.selection import Selected, select_provider

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SPACE = UUID(int=1)
IDS: Mapping[str, UUID] = {name: uuid5(SPACE, name) for name in ORDER}
NAMES = {provider_id: name for name, provider_id in IDS.items()}
CANDIDATES = [Candidate(IDS[name], "provider-x", priority) for priority, name in enumerate(ORDER)]
SLOTS = 100  # calls in flight at a provider
QUEUE_TIMEOUT = 2.0  # seconds


class Ours:
    """The running system's policy, with one worker and one router."""

    def __init__(self, world: World, seed: int = 0) -> None:
        self._monitor = HealthMonitor(HealthThresholds(), jitter=Random(seed))
        self._health: dict[UUID, ProviderHealth] = {}
        self._probes = ProbeBudget()
        self._bulkheads: dict[str, Bulkhead[int]] = {name: Bulkhead(SLOTS) for name in ORDER}
        self._reports: list[AttemptReport] = []
        self._status: dict[UUID, str] = {}
        self._ejections: list[float] = []

    def choose(self, message: Message, now: float) -> str | None:
        task = _task(message)
        at = EPOCH + timedelta(seconds=now)
        self._probes.end(task.delivery_id)
        selection = select_provider(task, CANDIDATES, self._health, at, self._probes.allow)
        if not isinstance(selection, Selected):
            return None
        if selection.probe is not None:
            self._probes.consume(selection.probe, task.delivery_id, at)
        return NAMES[selection.provider.id]

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
        self._reports.append(
            AttemptReport.model_construct(
                project_id=SPACE,
                channel=Channel.SMS,
                occurred_at=EPOCH + timedelta(seconds=now),
                provider_id=IDS[name],
                outcome=outcome,
                scope=None,
                retry_after_s=None,
                duration_ms=int(1000 * duration),
                destination=message.destination,
            )
        )

    def tick(self, now: float) -> None:
        at = EPOCH + timedelta(seconds=now)
        for name, bulkhead in self._bulkheads.items():
            bulkhead.check(now, QUEUE_TIMEOUT)
            if bulkhead.report(now, QUEUE_TIMEOUT) is not None:
                self._reports.append(
                    AttemptReport.model_construct(
                        project_id=SPACE, channel=Channel.SMS, occurred_at=at, provider_id=IDS[name],
                        outcome="unresponsive", scope=None, retry_after_s=None,
                        duration_ms=None, destination="",
                    )
                )  # fmt: skip
        reports, self._reports = self._reports, []
        if reports:
            self._monitor.record_attempts(reports, at)
        for health in self._monitor.changed_statuses(at):
            before = self._status.get(health.provider_id, "healthy")
            if before != "unhealthy" and health.status == "unhealthy":
                self._ejections.append(now)
            self._status[health.provider_id] = health.status
            self._health[health.provider_id] = health

    def ejections(self) -> list[float]:
        return self._ejections


def _delivery_id(message: Message) -> UUID:
    return UUID(int=message.number)


def _task(message: Message) -> DeliveryTask:
    return DeliveryTask.model_construct(
        delivery_id=_delivery_id(message),
        message_id=_delivery_id(message),
        project_id=SPACE,
        channel=Channel.SMS,
        delivery_class=DeliveryClass.STANDARD,
        enqueued_at=EPOCH,
        expires_at=EPOCH,
        destination=message.destination,
        attempted_providers=tuple(IDS[name] for name in message.tried),
    )
