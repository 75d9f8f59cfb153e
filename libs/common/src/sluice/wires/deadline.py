"""A time limit on a block, at a quarter of what asyncio.timeout costs. A call pays for two.

Deadlines that end within the same hundredth of a second share a timer of the event loop: making and cancelling one of
its own was most of a deadline's cost.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

_TICKS = 100  # per second


class _Timers:
    """The deadlines of one event loop, by the tick at which they end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ending: dict[int, set[Deadline]] = {}

    def add(self, deadline: Deadline, seconds: float) -> set[Deadline]:
        """End it after ``seconds``, at most a tick later, unless it is taken out of the returned set before."""
        now = time.monotonic()
        tick = int((now + seconds) * _TICKS) + 1
        ending = self._ending.get(tick)
        if ending is None:
            ending = self._ending[tick] = set()
            self.loop.call_later(tick / _TICKS - now, self._end, tick)
        ending.add(deadline)
        return ending

    def _end(self, tick: int) -> None:
        ending = self._ending.pop(tick)
        while ending:
            ending.pop().end()


_timers: _Timers | None = None  # of the loop that asked last; a process has one, tests have many


def _timers_of(loop: asyncio.AbstractEventLoop) -> _Timers:
    global _timers
    timers = _timers
    if timers is None or timers.loop is not loop:
        timers = _timers = _Timers(loop)
    return timers


class Deadline:
    """``with Deadline(seconds):`` cancels what is awaited inside when the time is over, and raises TimeoutError.

    A cancellation from outside stays one. To be entered once, inside a task.
    """

    __slots__ = ("_cancelling", "_ending", "_over", "_seconds", "_task")

    _task: asyncio.Task[object]
    _ending: set[Deadline]

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._ending = _timers_of(task.get_loop()).add(self, self._seconds)

    def end(self) -> None:
        """The time is over."""
        self._over = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ending.discard(self)
        # Who has cancelled once takes back once; if somebody else cancelled as well, that is left to have its way.
        if self._over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
