"""Traffic under a routing policy: the functions of router, worker and health service, with a simulated clock.

For the simulation of policies (``bench/routing``) and for ``sluice backtest``. Times and durations are seconds; nothing
here reads a clock or does I/O.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from random import Random
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from sluice.bus.messages import AttemptReport, DeliveryTask, ProviderHealth
from sluice.delivery.bulkhead import Bulkhead, ObservedCall
from sluice.health.breaker import UNHEALTHY, HealthThresholds
from sluice.health.monitor import HealthMonitor
from sluice.health.seed_rule import SeedThresholds
from sluice.model.candidate import Candidate
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing.probe_budget import ProbeBudget
from sluice.routing.selection import Selected, Selection, select_provider

TICK = 0.1  # seconds between two evaluations of a policy
_SLOTS = 100  # calls in flight at a provider
_QUEUE_TIMEOUT = 2.0  # seconds

P = TypeVar("P")  # what identifies a provider


@dataclass(slots=True)
class ReplayedDelivery(Generic[P]):
    """A delivery on its way through one retry round."""

    number: int
    at: float  # when its first attempt is routed
    destination: str
    expires_at: float = field(default=inf, kw_only=True)
    tried: list[P] = field(default_factory=list, kw_only=True)
    outcomes: list[str] = field(default_factory=list, kw_only=True)  # of the attempts that have ended
    ended_at: float | None = field(default=None, kw_only=True)  # accepted, or refused because of the recipient
    lost: bool = field(default=False, kw_only=True)  # no provider accepted it

    @property
    def first(self) -> P | None:
        """The provider of the first attempt."""
        return self.tried[0] if self.tried else None

    @property
    def first_ok(self) -> bool | None:
        """Whether the first attempt was accepted; None without evidence about the provider."""
        outcome = self.outcomes[0] if self.outcomes else None
        return None if outcome in (None, "recipient_rejected") else outcome == "accepted"


D = TypeVar("D", bound=ReplayedDelivery[Any])
D_contra = TypeVar("D_contra", bound=ReplayedDelivery[Any], contravariant=True)


@dataclass(frozen=True, slots=True)
class Wait:
    """No provider may be called before ``until``."""

    until: float


class Policy(Protocol[P, D_contra]):
    """What selects the providers."""

    def choose(self, delivery: D_contra, now: float) -> P | Wait | None:
        """The provider of the next attempt; None: all were tried."""

    def started(self, provider: P, delivery: D_contra, now: float) -> None:
        """A call begins."""

    def ended(self, provider: P, delivery: D_contra, outcome: str, duration: float, now: float) -> None:
        """A call has ended."""

    def tick(self, now: float) -> None:
        """Time has passed."""


class Replay(Generic[P, D]):
    """The event loop of a run: arrivals, calls, and the policy that is given the end of each call.

    ``answer`` returns the outcome (a word of :mod:`sluice.model.outcome`) and the duration of a call that begins.
    ``max_attempts`` bounds the attempts of a delivery, and ``until`` is the time of the last tick. ``progress`` is
    called with the number of each delivery that arrives.
    """

    def __init__(
        self,
        policy: Policy[P, D],
        answer: Callable[[D, P, float], tuple[str, float]],
        *,
        max_attempts: int | None = None,
        until: float = inf,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._answer = answer
        self._max_attempts = inf if max_attempts is None else max_attempts
        self._until = until
        self._progress = progress
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0

    def _at(self, at: float, act: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, act))

    def run(self, deliveries: Sequence[D]) -> None:
        """Replay ``deliveries``, in the order of their times; what becomes of each is in it."""
        arrivals = iter(deliveries)

        def arrive(now: float, delivery: D) -> None:
            self._progress(delivery.number)
            expect_next()
            self._route(delivery, now)

        def expect_next() -> None:
            following = next(arrivals, None)
            if following is not None:
                self._at(following.at, lambda at: arrive(at, following))

        expect_next()
        next_tick = TICK
        while self._events:
            at, _, act = heapq.heappop(self._events)
            while next_tick <= at and next_tick < self._until:
                self._policy.tick(next_tick)
                next_tick += TICK
            act(at)

    def _route(self, delivery: D, now: float) -> None:
        chosen = self._policy.choose(delivery, now) if len(delivery.tried) < self._max_attempts else None
        if isinstance(chosen, Wait):
            if now < chosen.until < delivery.expires_at:
                self._at(chosen.until, lambda at: self._route(delivery, at))
                return
            chosen = None
        if chosen is None:
            delivery.lost = True
            return
        provider = chosen
        outcome, duration = self._answer(delivery, provider, now)
        delivery.tried.append(provider)
        self._policy.started(provider, delivery, now)
        self._at(now + duration, lambda at: self._ended(delivery, provider, outcome, duration, at))

    def _ended(self, delivery: D, provider: P, outcome: str, duration: float, now: float) -> None:
        self._policy.ended(provider, delivery, outcome, duration, now)
        delivery.outcomes.append(outcome)
        if outcome in ("accepted", "recipient_rejected"):  # its end: no failover
            delivery.ended_at = now
        else:
            self._route(delivery, now)


class ReplayedRouting:
    """The running system's routing of one project's channel: one router, one worker, the health service.

    ``at_time`` is the simulated clock's time as a date. What a project's policy does not use (health under `static`) is
    evaluated all the same.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        policy: RoutingPolicy,
        at_time: Callable[[float], datetime],
        *,
        thresholds: HealthThresholds | None = None,
        seed_thresholds: SeedThresholds | None = None,
        jitter: Random | None = None,
    ) -> None:
        self.ejections: list[float] = []  # when a provider became unhealthy
        self._candidates = candidates
        self._policy = policy
        self._at_time = at_time
        self._monitor = HealthMonitor(thresholds or HealthThresholds(), seed_thresholds, jitter or Random(0))  # noqa: S311
        self._health: dict[UUID, ProviderHealth] = {}
        self._probes = ProbeBudget()
        self._bulkheads: dict[UUID, Bulkhead[UUID]] = {one.id: Bulkhead(_SLOTS) for one in candidates}
        self._calls: dict[UUID, ObservedCall[UUID]] = {}  # by delivery
        self._reports: list[AttemptReport] = []
        self._origin: DeliveryTask | None = None  # any one: for its project and its channel

    def select(self, task: DeliveryTask, now: float) -> Selection:
        """The decision for the task's next attempt, as the router makes it."""
        self._origin = task
        at = self._at_time(now)
        self._probes.end(task.delivery_id)
        selection = select_provider(task, self._candidates, self._health, at, self._probes.allow, self._policy)
        if isinstance(selection, Selected) and selection.probe is not None:
            self._probes.consume(selection.probe, task.delivery_id, at)
        return selection

    def started(self, provider_id: UUID, delivery_id: UUID, now: float) -> None:
        """A call begins. Every call has a slot: queues in front of a provider are not replayed."""
        bulkhead = self._bulkheads[provider_id]
        bulkhead.enqueue(delivery_id, now, urgent=False)
        bulkhead.acquire(now)
        call = self._calls[delivery_id] = ObservedCall(bulkhead, delivery_id, now)
        call.begin_step(now)

    def ended(
        self, provider_id: UUID, delivery_id: UUID, outcome: str, duration: float, now: float, destination: str
    ) -> None:
        """A call has ended; its evidence counts from the next tick on."""
        self._calls.pop(delivery_id).end(now, answered=outcome != "unknown")
        self._bulkheads[provider_id].release(delivery_id, now)
        self._report(provider_id, outcome, now, int(1000 * duration), destination)

    def tick(self, now: float) -> None:
        """Evaluate the evidence, and let the router know each status that has changed."""
        for provider_id, bulkhead in self._bulkheads.items():
            bulkhead.check(now, _QUEUE_TIMEOUT)
            if bulkhead.report(now, _QUEUE_TIMEOUT) is not None:
                self._report(provider_id, "unresponsive", now)
        reports, self._reports = self._reports, []
        if reports:
            self._monitor.record_attempts(reports, self._at_time(now))
        for health in self._monitor.changed_statuses(self._at_time(now)):
            if self._is_ejected(health) and not self._is_ejected(self._health.get(health.provider_id)):
                self.ejections.append(now)
            self._health[health.provider_id] = health

    def _is_ejected(self, health: ProviderHealth | None) -> bool:
        if health is None or self._policy is RoutingPolicy.STATIC:
            return False
        if self._policy is RoutingPolicy.SEED:
            return health.seed is not None and health.seed.status == UNHEALTHY
        return health.status == UNHEALTHY

    def _report(
        self, provider_id: UUID, outcome: str, now: float, duration_ms: int | None = None, destination: str = ""
    ) -> None:
        assert self._origin is not None
        self._reports.append(
            AttemptReport.model_construct(
                project_id=self._origin.project_id,
                channel=self._origin.channel,
                occurred_at=self._at_time(now),
                provider_id=provider_id,
                outcome=outcome,
                scope=None,
                retry_after_s=None,
                duration_ms=duration_ms,
                destination=destination,
            )
        )
