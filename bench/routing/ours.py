"""Our policy: the functions of the health service, the router and the worker, with the clock passed in."""

from __future__ import annotations

from random import Random
from uuid import UUID

from bench.routing.policies import CANDIDATES, IDS, NAMES, at_time, task_of
from bench.routing.world import Message, World
from sluice.delivery.replay import ReplayedRouting
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing.selection import Selected


class Ours:
    """The running system's default policy."""

    def __init__(self, world: World, seed: int = 0) -> None:
        self._routing = ReplayedRouting(CANDIDATES, RoutingPolicy.ADAPTIVE, at_time, jitter=Random(seed))

    def choose(self, message: Message, now: float) -> str | None:
        selection = self._routing.select(task_of(message), now)
        return NAMES[selection.provider.id] if isinstance(selection, Selected) else None

    def started(self, name: str, message: Message, now: float) -> None:
        self._routing.started(IDS[name], UUID(int=message.number), now)

    def ended(self, name: str, message: Message, outcome: str, duration: float, now: float) -> None:
        self._routing.ended(IDS[name], UUID(int=message.number), outcome, duration, now, message.destination)

    def tick(self, now: float) -> None:
        self._routing.tick(now)

    def ejections(self) -> list[float]:
        return self._routing.ejections
