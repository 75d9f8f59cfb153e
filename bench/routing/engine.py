"""The event loop of a run: arrivals, calls, and the policy that is given the end of each call."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

from bench.routing.world import DURATION, Message, World

MAX_ATTEMPTS = 3  # providers for a message; one round
TICK = 0.1  # seconds between two evaluations of a policy


class Policy(Protocol):
    """A routing policy."""

    def choose(self, message: Message, now: float) -> str | None:
        """The provider of the next attempt; None: all were tried."""

    def started(self, name: str, message: Message, now: float) -> None:
        """A call begins."""

    def ended(self, name: str, message: Message, outcome: str, duration: float, now: float) -> None:
        """A call has ended."""

    def tick(self, now: float) -> None:
        """Time has passed."""

    def ejections(self) -> list[float]:
        """When a provider lost its traffic on purpose."""


class Run:
    """One policy in one world."""

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0

    def _at(self, at: float, act: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, act))

    def run(self) -> list[Message]:
        """All messages with what became of them."""
        messages = self.world.messages()
        arrivals = iter(messages)

        def arrive(now: float, message: Message) -> None:
            following = next(arrivals, None)
            if following is not None:
                self._at(following.at, lambda at: arrive(at, following))
            self._route(message, now)

        first = next(arrivals, None)
        if first is not None:
            self._at(first.at, lambda at: arrive(at, first))
        next_tick = TICK
        while self._events:
            at, _, act = heapq.heappop(self._events)
            while next_tick <= at and next_tick < DURATION + 60:
                self.policy.tick(next_tick)
                next_tick += TICK
            act(at)
        return messages

    def _route(self, message: Message, now: float) -> None:
        name = self.policy.choose(message, now) if message.attempts < MAX_ATTEMPTS else None
        if name is None:
            message.lost = True
            return
        outcome, duration = self.world.call(message, name, now)
        message.attempts += 1
        message.tried.append(name)
        if not message.first:
            message.first = name
        self.policy.started(name, message, now)
        self._at(now + duration, lambda at: self._ended(message, name, outcome, duration, at))

    def _ended(self, message: Message, name: str, outcome: str, duration: float, now: float) -> None:
        self.policy.ended(name, message, outcome, duration, now)
        if message.attempts == 1 and outcome != "recipient_rejected":
            message.first_ok = outcome == "accepted"
        match outcome:
            case "accepted":
                message.sent_at = now
            case "recipient_rejected":
                message.sent_at = now  # its end: no failover
            case _:
                self._route(message, now)
