"""Replays a recording under a policy, through the functions that route on the running system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sluice.delivery.replay import Replay, ReplayedRouting, Wait
from sluice.health.settings import HealthRuleSettings
from sluice.model.candidate import Candidate
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing.selection import Deferred, Selected
from sluice_cli.backtest.recording import Journey, Recording, fresh


@dataclass(slots=True)
class Replayed:
    """A recording under a policy. ``borrowed``: how many seconds away each answer to another delivery was given."""

    journeys: list[Journey]
    ejections: int = 0
    own_answers: int = 0
    borrowed: list[float] = field(default_factory=list)


class _Routed:
    """The policy of the replay: the routing of the running system."""

    def __init__(self, routing: ReplayedRouting, began: Recording) -> None:
        self._routing = routing
        self._recording = began

    def choose(self, delivery: Journey, now: float) -> UUID | Wait | None:
        selection = self._routing.select(delivery.next_task(), now)
        match selection:
            case Selected():
                return selection.provider.id
            case Deferred():
                return Wait((selection.until - self._recording.began).total_seconds())
        return None

    def started(self, provider: UUID, delivery: Journey, now: float) -> None:
        self._routing.started(provider, delivery.task.delivery_id, now)

    def ended(self, provider: UUID, delivery: Journey, outcome: str, duration: float, now: float) -> None:
        self._routing.ended(provider, delivery.task.delivery_id, outcome, duration, now, delivery.destination)

    def tick(self, now: float) -> None:
        self._routing.tick(now)


def replay(
    recording: Recording,
    candidates: Sequence[Candidate],
    policy: RoutingPolicy,
    rules: HealthRuleSettings,
    progress: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """The recording's deliveries under ``policy`` with ``candidates``, each of which has an answer in the recording.

    ``progress`` is called with the number of each delivery that begins.
    """
    found = Replayed(fresh(recording.journeys))
    routing = ReplayedRouting(
        candidates,
        policy,
        recording.at_time,
        thresholds=rules.health_thresholds,
        seed_thresholds=rules.health_seed_thresholds,
    )

    def answer(journey: Journey, provider_id: UUID, at: float) -> tuple[str, float]:
        given, distance = recording.answer(journey, provider_id, at)
        if distance is None:
            found.own_answers += 1
        else:
            found.borrowed.append(distance)
        return given

    Replay(_Routed(routing, recording), answer, progress=progress).run(found.journeys)
    found.ejections = len(routing.ejections)
    return found
