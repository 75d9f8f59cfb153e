"""One time limit for many waiting tasks, without a timer of the event loop for each."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, TypeVar

from sluice.runtime.timers import timer_wheel

R = TypeVar("R")


class FutureTimeout:
    """Ends futures that take longer than ``seconds`` with :class:`TimeoutError`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def apply(self, future: asyncio.Future[R]) -> asyncio.Future[R]:
        """The same future, from now on with a time limit."""
        timer_wheel(future.get_loop()).call_later(self._seconds, partial(_fail, future))
        return future


def _fail(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
