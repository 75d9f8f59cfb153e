"""A time limit on a block, at a quarter of what asyncio.timeout costs. A call pays for two."""

from __future__ import annotations

import asyncio
from types import TracebackType

from sluice.runtime.timers import Timer, timer_wheel


class Deadline:
    """``with Deadline(seconds):`` cancels what is awaited inside when the time is over, and raises TimeoutError.

    A cancellation from outside stays one. To be entered once, inside a task.
    """

    __slots__ = ("_cancelling", "_over", "_seconds", "_task", "_timer")

    _task: asyncio.Task[object]
    _timer: Timer

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = timer_wheel(task.get_loop()).call_later(self._seconds, self._end)

    def _end(self) -> None:
        self._over = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._timer.cancel()
        # Who has cancelled once takes back once; if somebody else cancelled as well, that is left to have its way.
        if self._over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
