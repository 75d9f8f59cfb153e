"""A timer wheel: timers that expire within the same hundredth of a second share one timer of the event loop.

For time limits that are nearly always cancelled: starting and cancelling a timer of the loop for each took longer than
the work that it limited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_TICKS = 100  # per second
_LONG = 60.0  # seconds; a longer timer expires at a whole second, because a slot lasts until its time has come


def _noop() -> None:
    """The callback of a cancelled timer."""


class Timer:
    """A callback that runs once, unless it is cancelled first."""

    __slots__ = ("_slot", "callback")

    def __init__(self, callback: Callable[[], object], slot: set[Timer]) -> None:
        self.callback = callback
        self._slot = slot

    def cancel(self) -> None:
        """Do not run the callback, unless it has already run."""
        self._slot.discard(self)
        # The callback mostly belongs to the object that holds this timer: without this line the two would be a cycle
        # that only the garbage collector frees. With the tasks that they hold that took a tenth of a worker's time.
        self.callback = _noop


class TimerWheel:
    """The timers of one event loop, by the tick at which they expire."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._due: dict[int, set[Timer]] = {}

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` after ``seconds``, at most one tick (10 ms) later; after a minute, a second."""
        now = time.monotonic()
        tick = int((now + seconds) * _TICKS) + 1
        if seconds > _LONG:
            tick += -tick % _TICKS
        slot = self._due.get(tick)
        if slot is None:
            slot = self._due[tick] = set()
            self.loop.call_later(tick / _TICKS - now, self._fire, tick)
        timer = Timer(callback, slot)
        slot.add(timer)
        return timer

    def _fire(self, tick: int) -> None:
        slot = self._due.pop(tick)
        while slot:
            timer = slot.pop()
            try:
                timer.callback()
            except Exception as error:  # the other timers of this tick must run
                self.loop.call_exception_handler({"message": "a timer's callback failed", "exception": error})


_wheel: TimerWheel | None = None  # of the loop that asked last; a process has one loop, tests have many


def timer_wheel(loop: asyncio.AbstractEventLoop) -> TimerWheel:
    """The timer wheel of ``loop``."""
    global _wheel
    wheel = _wheel
    if wheel is None or wheel.loop is not loop:
        wheel = _wheel = TimerWheel(loop)
    return wheel
