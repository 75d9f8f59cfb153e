"""The policies that ours is compared with."""

from __future__ import annotations

from collections import Counter, deque

from bench.routing.world import Message, World

ORDER = ("A", "B", "C")
NO_EVIDENCE = ("recipient_rejected",)


class Static:
    """The priorities, and the next one on an error."""

    def __init__(self, world: World) -> None:
        self._world = world

    def choose(self, message: Message, now: float) -> str | None:
        return next((name for name in ORDER if name not in message.tried), None)

    def started(self, name: str, message: Message, now: float) -> None:
        pass

    def ended(self, name: str, message: Message, outcome: str, duration: float, now: float) -> None:
        pass

    def tick(self, now: float) -> None:
        pass

    def ejections(self) -> list[float]:
        return []


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
    """Healthy below 5 % errors in the last 100 sends, degraded to 25 %, unhealthy above or after 5 failures in a row.

    Unhealthy is out for 60 s; then the window is empty, or one message tries it first (``trial``).
    """

    WINDOW, OUT, IN_A_ROW = 100, 60.0, 5

    def __init__(self, world: World, *, trial: bool = False, all_errors: bool = False) -> None:
        super().__init__(world)
        self._trial = trial
        self._all_errors = all_errors
        self._window: dict[str, deque[bool]] = {name: deque(maxlen=self.WINDOW) for name in ORDER}
        self._in_a_row: Counter[str] = Counter()
        self._out_until: dict[str, float] = {}
        self._trying: set[str] = set()
        self._ejections: list[float] = []

    def choose(self, message: Message, now: float) -> str | None:
        left = [name for name in ORDER if name not in message.tried]
        ranked = {name: self._rank(name, now) for name in left}
        name = min(left, key=lambda one: ranked[one], default=None)
        if name is not None and name in self._out_until and now >= self._out_until[name] and self._trial:
            self._trying.add(name)
        return name

    def _rank(self, name: str, now: float) -> int:
        until = self._out_until.get(name)
        if until is not None:
            return 2 if now < until or name in self._trying else 0
        window = self._window[name]
        return int(bool(window) and sum(window) / len(window) >= 0.05)

    def ended(self, name: str, message: Message, outcome: str, duration: float, now: float) -> None:
        if outcome in NO_EVIDENCE and not self._all_errors:
            self._trying.discard(name)
            return
        failed = outcome != "accepted"
        until = self._out_until.get(name)
        if until is not None and self._trial:
            if name in self._trying:
                self._trying.discard(name)
                if failed:
                    self._eject(name, now)
                else:
                    self._admit(name)
            return
        if until is not None and now < until:
            return
        if until is not None:
            self._admit(name)
        self._window[name].append(failed)
        self._in_a_row[name] = self._in_a_row[name] + 1 if failed else 0
        window = self._window[name]
        if failed and (
            self._in_a_row[name] >= self.IN_A_ROW or (sum(window) / len(window) > 0.25 and len(window) >= 20)
        ):
            self._eject(name, now)

    def _eject(self, name: str, now: float) -> None:
        self._out_until[name] = now + self.OUT
        self._window[name].clear()
        self._in_a_row[name] = 0
        self._ejections.append(now)

    def _admit(self, name: str) -> None:
        self._out_until.pop(name, None)
        self._window[name].clear()
        self._in_a_row[name] = 0

    def ejections(self) -> list[float]:
        return self._ejections


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
        if outcome not in ("accepted", *NO_EVIDENCE):
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
