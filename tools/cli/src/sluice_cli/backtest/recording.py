"""Recorded traffic as the input of a replay: what was sent when, and what each provider answered."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.bus.messages import DeliveryTask
from sluice.delivery.replay import ReplayedDelivery
from sluice.model.destination import destination_of
from sluice.model.message import Channel, DeliveryClass
from sluice.store.routing_traffic import RecordedAttempt, RecordedDelivery

SAME_DESTINATION = 60.0  # seconds within which an attempt at the same destination says more than a nearer one elsewhere
# What a provider answered to one message because of that message says nothing about its answer to another.
_ABOUT_THE_MESSAGE = frozenset({"recipient_rejected", "declined"})


@dataclass(slots=True)
class Journey(ReplayedDelivery[UUID]):
    """A recorded delivery, which is routed again."""

    task: DeliveryTask
    segments: int

    def next_task(self) -> DeliveryTask:
        """The request for its next attempt."""
        return self.task.model_copy(update={"attempted_providers": tuple(self.tried), "attempt": len(self.tried) + 1})


class Answer(NamedTuple):
    """Of a provider: an outcome, and the seconds until it came."""

    outcome: str
    duration: float


class _Answers:
    """A provider's answers, to find the nearest in time."""

    def __init__(self) -> None:
        self._given: list[tuple[float, Answer]] = []

    def add(self, at: float, answer: Answer) -> None:
        self._given.append((at, answer))

    def sort(self) -> None:
        self._given.sort()

    def nearest(self, at: float) -> tuple[float, Answer]:
        """The distance in seconds and the answer."""
        place = bisect_left(self._given, at, key=lambda one: one[0])
        near = self._given[max(0, place - 1) : place + 1]
        found, answer = min(near, key=lambda one: abs(one[0] - at))
        return abs(found - at), answer


@dataclass(slots=True)
class Recording:
    """Deliveries of one channel with their recorded attempts.

    ``journeys`` are those that can be replayed, in the order of their times; ``recorded`` are the same with what
    became of them. Times are seconds since ``began``.
    """

    began: datetime
    journeys: list[Journey] = field(default_factory=list)
    recorded: list[Journey] = field(default_factory=list)
    never_attempted: int = 0  # cancelled, suppressed, expired before the first attempt, or still waiting
    in_flight: int = 0  # an attempt of their first retry round has no outcome yet
    _own: dict[tuple[int, UUID], Answer] = field(default_factory=dict)
    _rejected: set[int] = field(default_factory=set)
    _answers: dict[tuple[UUID, str | None], _Answers] = field(default_factory=lambda: defaultdict(_Answers))

    @classmethod
    def of(cls, deliveries: Collection[RecordedDelivery], *, project_id: UUID, channel: Channel) -> Recording | None:
        """The recording of ``deliveries``, in any order; None if none of them can be replayed."""
        starts = [one.attempts[0].started_at for one in deliveries if one.attempts]
        if not starts:
            return None
        found = cls(min(starts))
        for delivery in sorted((one for one in deliveries if one.attempts), key=lambda one: one.attempts[0].started_at):
            found._add(delivery, project_id, channel)
        found.never_attempted = len(deliveries) - len(starts)
        for answers in found._answers.values():
            answers.sort()
        return found if found.journeys else None

    def providers(self) -> set[UUID]:
        """The providers with an answer that can stand for others."""
        return {provider_id for provider_id, destination in self._answers if destination is None}

    def at_time(self, seconds: float) -> datetime:
        """The date of a time of the replay."""
        return self.began + timedelta(seconds=seconds)

    def answer(self, journey: Journey, provider_id: UUID, at: float) -> tuple[Answer, float | None]:
        """A provider's answer to a delivery, and how far from ``at`` (seconds) it was given; None: to this delivery.

        That of another delivery is one to the same destination within a minute, or else the nearest of all.
        """
        own = self._own.get((journey.number, provider_id))
        if own is not None:
            return own, None
        distance, answer = self._answers[provider_id, None].nearest(at)
        there = self._answers.get((provider_id, journey.destination))
        if there is not None and distance > 0:
            near, alike = there.nearest(at)
            if near <= SAME_DESTINATION:
                distance, answer = near, alike
        if journey.number in self._rejected:
            return Answer("recipient_rejected", answer.duration), distance
        return answer, distance

    def _add(self, delivery: RecordedDelivery, project_id: UUID, channel: Channel) -> None:
        first_round = [one for one in delivery.attempts if one.retry_round == delivery.attempts[0].retry_round]
        number = len(self.journeys)
        journey = self._journey(delivery, number, project_id, channel)
        complete = all(one.outcome is not None for one in first_round)
        for attempt in delivery.attempts:
            self._add_answer(attempt, journey.destination, number if complete else None)
        if not complete:
            self.in_flight += 1
            return
        self.journeys.append(journey)
        (recorded,) = fresh([journey])
        for attempt in first_round:
            recorded.tried.append(attempt.provider_id)
            recorded.outcomes.append(attempt.outcome or "")
            if attempt.outcome in ("accepted", "recipient_rejected"):
                recorded.ended_at = self._seconds(attempt.finished_at or attempt.started_at)
        recorded.lost = recorded.ended_at is None
        self.recorded.append(recorded)

    def _add_answer(self, attempt: RecordedAttempt, destination: str, number: int | None) -> None:
        if attempt.outcome is None or attempt.finished_at is None:
            return
        answer = Answer(attempt.outcome, max(0.0, (attempt.finished_at - attempt.started_at).total_seconds()))
        if number is not None:
            self._own.setdefault((number, attempt.provider_id), answer)
            if attempt.outcome == "recipient_rejected":
                self._rejected.add(number)
        if attempt.outcome not in _ABOUT_THE_MESSAGE:
            at = self._seconds(attempt.started_at)
            self._answers[attempt.provider_id, None].add(at, answer)
            self._answers[attempt.provider_id, destination].add(at, answer)

    def _journey(self, delivery: RecordedDelivery, number: int, project_id: UUID, channel: Channel) -> Journey:
        destination = destination_of(channel, delivery.recipient)
        at = delivery.attempts[0].started_at
        task = DeliveryTask.model_construct(
            delivery_id=delivery.id,
            message_id=delivery.message_id,
            project_id=project_id,
            channel=channel,
            delivery_class=DeliveryClass(delivery.delivery_class),
            enqueued_at=at,
            expires_at=delivery.expires_at,
            preferred_provider_id=delivery.preferred_provider_id,
            destination=destination,
            segments=delivery.segments,
        )
        return Journey(
            number,
            self._seconds(at),
            destination,
            task,
            delivery.segments,
            expires_at=self._seconds(delivery.expires_at),
        )

    def _seconds(self, when: datetime) -> float:
        return (when - self.began).total_seconds()


def fresh(journeys: Sequence[Journey]) -> list[Journey]:
    """The deliveries once more, as if none had been attempted."""
    return [
        Journey(one.number, one.at, one.destination, one.task, one.segments, expires_at=one.expires_at)
        for one in journeys
    ]
