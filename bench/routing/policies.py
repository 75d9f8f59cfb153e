"""The policies that ours is compared with: the selection and the seed rule are the product's own functions."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from bench.routing.world import Message, World
from sluice.bus.messages import DeliveryTask, HealthState, ProviderHealth
from sluice.health.breaker import HEALTHY, UNHEALTHY, Attempt
from sluice.health.seed_rule import SeedStats, SeedThresholds, observe
from sluice.model.candidate import Candidate
from sluice.model.message import Channel, DeliveryClass
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing.probe_budget import ProbeBudget
from sluice.routing.selection import Selected, select_provider

ORDER = ("A", "B", "C")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SPACE = UUID(int=1)
IDS: Mapping[str, UUID] = {name: uuid5(SPACE, name) for name in ORDER}
NAMES = {provider_id: name for name, provider_id in IDS.items()}
CANDIDATES = [Candidate(IDS[name], "provider-x", priority) for priority, name in enumerate(ORDER)]


def at_time(now: float) -> datetime:
    """The simulated clock."""
    return EPOCH + timedelta(seconds=now)


def task_of(message: Message) -> DeliveryTask:
    """The message as the router sees it."""
    delivery_id = UUID(int=message.number)
    return DeliveryTask.model_construct(
        delivery_id=delivery_id,
        message_id=delivery_id,
        project_id=SPACE,
        channel=Channel.SMS,
        delivery_class=DeliveryClass.STANDARD,
        enqueued_at=EPOCH,
        expires_at=EPOCH,
        destination=message.destination,
        attempted_providers=tuple(IDS[name] for name in message.tried),
    )


class Static:
    """The priorities, and the next one on an error."""

    policy = RoutingPolicy.STATIC

    def __init__(self, world: World) -> None:
        self._world = world
        self._health: dict[UUID, ProviderHealth] = {}
        self._probes = ProbeBudget()
        self._ejections: list[float] = []

    def choose(self, message: Message, now: float) -> str | None:
        task, at = task_of(message), at_time(now)
        self._probes.end(task.delivery_id)
        selection = select_provider(task, CANDIDATES, self._health, at, self._probes.allow, self.policy)
        if not isinstance(selection, Selected):
            return None
        if selection.probe is not None:
            self._probes.consume(selection.probe, task.delivery_id, at)
        return NAMES[selection.provider.id]

    def started(self, name: str, message: Message, now: float) -> None:
        pass

    def ended(self, name: str, message: Message, outcome: str, duration: float, now: float) -> None:
        pass

    def tick(self, now: float) -> None:
        pass

    def ejections(self) -> list[float]:
        return self._ejections


class Oracle(Static):
    """Sees every fault: the most successful provider, a responsive one first."""

    def choose(self, message: Message, now: float) -> str | None:
        left = [name for name in ORDER if name not in message.tried]

        def rank(name: str) -> tuple[float, float]:
            state = self._world.now(name, now, message.destination)
            slow = state.slower * self._world.models[name].median > 1.5
            return (-1.0 if state.hangs else -0.5 if slow else 0.0) + state.success, -ORDER.index(name)

        return max(left, key=rank, default=None)


class SeedRule(Static):
    """The seed rule; each result counts at once, without the way over the bus."""

    policy = RoutingPolicy.SEED

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._stats = dict.fromkeys(ORDER, SeedStats())

    def ended(self, name: str, message: Message, outcome: str, duration: float, now: float) -> None:
        before = self._stats[name]
        after = self._observe(before, Attempt(at_time(now), outcome, duration=duration))
        self._stats[name] = after
        if (after.status, after.out_until) != (before.status, before.out_until):
            self._publish(name, after, now)
            if after.status == UNHEALTHY:
                self._ejections.append(now)

    def _observe(self, stats: SeedStats, attempt: Attempt) -> SeedStats:
        return observe(stats, attempt, SeedThresholds())

    def _publish(self, name: str, stats: SeedStats, now: float) -> None:
        state = None
        if stats.status != HEALTHY:
            state = HealthState(status=stats.status, probe_at=stats.out_until, error_rate=stats.error_rate)
        self._health[IDS[name]] = _health(name, now, status=HEALTHY, seed=state)


class SeedRuleWithTrial(SeedRule):
    """The seed rule with another way back: after its pause, one message is tried at the provider, as a probe."""

    policy = RoutingPolicy.ADAPTIVE  # which knows probes; the status is the seed rule's

    def _observe(self, stats: SeedStats, attempt: Attempt) -> SeedStats:
        return observe(stats, attempt, SeedThresholds(), trial=True)

    def _publish(self, name: str, stats: SeedStats, now: float) -> None:
        self._health[IDS[name]] = _health(
            name,
            now,
            status=stats.status,
            probe_at=stats.out_until,
            probe_results=stats.trials,
            error_rate=stats.error_rate,
        )


def _health(name: str, now: float, **fields: object) -> ProviderHealth:
    return ProviderHealth.model_validate(
        {"provider_id": IDS[name], "project_id": SPACE, "channel": "sms", "updated_at": at_time(now), **fields}
    )


class Weights(Static):
    """Weights of the first two: ten points move after 50 errors in a minute, and back after 15 quiet minutes."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._share = 0.51
        self._errors: dict[str, deque[float]] = {name: deque() for name in ORDER}
        self._moved_at = -1e9

    def choose(self, message: Message, now: float) -> str | None:
        first = "A" if (message.number * 0.61803398875) % 1 < self._share else "B"
        order = (first, *(name for name in ORDER if name != first))
        return next((name for name in order if name not in message.tried), None)

    def ended(self, name: str, message: Message, outcome: str, duration: float, now: float) -> None:
        if outcome not in ("accepted", "recipient_rejected"):
            self._errors[name].append(now)

    def tick(self, now: float) -> None:
        for errors in self._errors.values():
            while errors and now - errors[0] > 60:
                errors.popleft()
        if now - self._moved_at > 60:
            for name, sign in (("A", -1), ("B", 1)):
                if len(self._errors[name]) > 50:
                    self._share = min(1.0, max(0.0, self._share + 0.1 * sign))
                    self._moved_at = now
        if now - self._moved_at > 900:
            self._share += max(-0.1, min(0.1, 0.51 - self._share))
            self._moved_at = now
