"""Search for the highest sustained rate: a ladder, up while it is sustained, down until it is. Pure."""

from __future__ import annotations


class Ladder:
    """Run at ``rate``, record whether it was sustained, until ``done``; then ``best`` is the last good rate.

    From the first guess it goes up by ``step`` while the rate is good. If the first is bad already it goes down
    until one is good; the rate above that one is known to be bad, so the search is over.
    """

    def __init__(self, first: float, *, step: float = 1.1, most: int = 12) -> None:
        if first <= 0 or step <= 1 or most < 1:
            raise ValueError("a ladder begins above zero, climbs, and has an end")
        self.rate = first
        self.best: float | None = None
        self.done = False
        self.tried: list[tuple[float, bool]] = []
        self._step = step
        self._most = most

    def record(self, good: bool) -> None:
        """Record the result of ``rate``."""
        went_down = bool(self.tried) and not self.tried[-1][1]
        self.tried.append((self.rate, good))
        if good:
            self.best = self.rate
        # Good after bad, or bad after good: both neighbours are known.
        self.done = good == went_down if len(self.tried) > 1 else False
        self.done = self.done or len(self.tried) >= self._most
        self.rate = self.rate * self._step if good else self.rate / self._step
