"""How many calls, or segments, may start at one provider: a bound on every second, not on the average.

Pure: no clock, no I/O. Times are seconds of one clock that the caller reads.

A permit that is granted at ``at`` lets one call start between ``at`` and ``at + validity``. So the permits of the calls
of any second are among those whose validity ended less than a second before the newest of them was granted. At most
``limit`` of these are granted.
"""

from __future__ import annotations

from collections import deque

SECOND = 1.0


class CallWindow:
    """The permits of one provider. No second contains the start of more than ``limit`` calls."""

    def __init__(self) -> None:
        self._granted: deque[tuple[float, int]] = deque()  # (a second after the end of the validity, number)

    def take(self, limit: int, wanted: int, now: float, validity: float, *, least: int = 1) -> int:
        """Grant up to ``wanted`` permits that are valid from ``now`` for ``validity`` seconds; returns their number.

        None rather than fewer than ``least``: the call that is next could not use them.
        """
        self._granted = deque(entry for entry in self._granted if entry[0] > now)  # validities differ
        granted = min(wanted, limit - sum(number for _, number in self._granted))
        if granted < max(1, least):
            return 0
        self.note(granted, now, validity)
        return granted

    def note(self, granted: int, now: float, validity: float) -> None:
        """Count permits that were granted elsewhere."""
        while self._granted and self._granted[0][0] <= now:
            self._granted.popleft()
        self._granted.append((now + validity + SECOND, granted))
