"""One time limit for many waiting tasks: a timer for each of them costs more than all else that is done to wait."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeVar

R = TypeVar("R")


class Patience:
    """Ends futures that take longer than ``seconds`` with :class:`TimeoutError`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()  # the loop's time until which, oldest first

    def limit(self, future: asyncio.Future[R]) -> asyncio.Future[R]:
        """The same future, from now on with a time limit."""
        loop = future.get_loop()
        until = loop.time() + self._seconds
        if not self._waiting:
            loop.call_at(until, self._look, loop)
        self._waiting.append((until, future))
        return future

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= now):
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(TimeoutError())
        if self._waiting:
            loop.call_at(self._waiting[0][0], self._look, loop)
