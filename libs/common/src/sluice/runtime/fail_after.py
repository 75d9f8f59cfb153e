"""One time limit for many waiting tasks, without a timer of the event loop for each."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, TypeVar

from sluice.runtime.timers import timers_of

R = TypeVar("R")


class Patience:
    """Ends futures that take longer than ``seconds`` with :class:`TimeoutError`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def limit(self, future: asyncio.Future[R]) -> asyncio.Future[R]:
        """The same future, from now on with a time limit."""
        timers_of(future.get_loop()).call_later(self._seconds, partial(_end, future))
        return future


def _end(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
