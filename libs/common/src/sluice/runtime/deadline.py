"""Time limits without a timer of the event loop for each: a block costs a quarter of ``asyncio.timeout``.

A provider call uses two, a request of the gateway one.
"""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from sluice.runtime.timers import Timer, timer_wheel

R = TypeVar("R")


class Deadline:
    """``with Deadline(seconds):`` cancels the block's await when the time has passed, and raises TimeoutError.

    A cancellation from outside stays a cancellation. An instance is entered once, inside a task.
    """

    __slots__ = ("_cancelling", "_expired", "_seconds", "_task", "_timer")

    _task: asyncio.Task[object]
    _timer: Timer

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = timer_wheel(task.get_loop()).call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._timer.cancel()
        # One cancel is taken back by one uncancel; a cancellation from elsewhere remains and goes on.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error


def fail_after(future: asyncio.Future[R], seconds: float) -> asyncio.Future[R]:
    """The same future, which fails with :class:`TimeoutError` if it is not done after ``seconds``.

    The timer runs on when the future is done, and must not keep its result: that of a large message has 19 MB.
    """
    timer_wheel(future.get_loop()).call_later(seconds, partial(_fail, weakref.ref(future)))
    return future


def _fail(of: weakref.ref[asyncio.Future[Any]]) -> None:
    future = of()
    if future is not None and not future.done():
        future.set_exception(TimeoutError())
