"""Timers that cost little: those that end within the same hundredth of a second share one of the event loop.

For time limits that are nearly always cancelled: making and cancelling a timer of the loop for each took longer than
what the limit was put on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_TICKS = 100  # per second


def _noop() -> None:
    """What a cancelled timer does."""


class Timer:
    """Something that will be done, unless it is cancelled before."""

    __slots__ = ("_slot", "callback")

    def __init__(self, callback: Callable[[], object], slot: set[Timer]) -> None:
        self.callback = callback
        self._slot = slot

    def cancel(self) -> None:
        """Leave it undone, if there is still time."""
        self._slot.discard(self)
        # Whoever cancels is mostly what the callback belongs to: kept, the two would be garbage that only the cyclic
        # collector finds. With the task of each call behind them that took a tenth of a worker's time.
        self.callback = _noop


class TimerWheel:
    """The timers of one event loop, by the tick at which they end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._due: dict[int, set[Timer]] = {}

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` after ``seconds``, at most a tick later."""
        now = time.monotonic()
        tick = int((now + seconds) * _TICKS) + 1
        together = self._due.get(tick)
        if together is None:
            together = self._due[tick] = set()
            self.loop.call_later(tick / _TICKS - now, self._fire, tick)
        timer = Timer(callback, together)
        together.add(timer)
        return timer

    def _fire(self, tick: int) -> None:
        together = self._due.pop(tick)
        while together:
            timer = together.pop()
            try:
                timer.callback()
            except Exception as error:  # the others have their time too
                self.loop.call_exception_handler({"message": "a timer's callback failed", "exception": error})


_wheels: TimerWheel | None = None  # of the loop that asked last; a process has one, tests have many


def timer_wheel(loop: asyncio.AbstractEventLoop) -> TimerWheel:
    """The loop's timers."""
    global _wheels
    timers = _wheels
    if timers is None or timers.loop is not loop:
        timers = _wheels = TimerWheel(loop)
    return timers
