"""Waiting without a guess of how long something takes: for a condition, or for a time limit to pass."""

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

TIMEOUT = 20.0  # seconds; far more than any condition takes on a busy machine
_POLL_INTERVAL = 0.02  # seconds
_IDLE = 0.1  # seconds without any event; on loopback data is there at once


async def wait_until(condition: Callable[[], Any], within: float = TIMEOUT) -> Any:
    """The first true result of ``condition``, which may return an awaitable.

    Raises:
        AssertionError: there was none within ``within`` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition was not true within {within:.0f} s; the last result was {found!r}")
        await asyncio.sleep(_POLL_INTERVAL)


@contextmanager
def virtual_time() -> Iterator[None]:
    """The event loop's clock stands still while the loop has work, and leaps to the next timer when it has none.

    A time limit of any length passes at once when everything waits for it, and never because the machine is busy.
    For peers on this event loop only: threads and other processes work without the loop's knowledge.
    """
    loop: Any = asyncio.get_running_loop()
    now, select = loop.time(), loop._selector.select

    def leap(timeout: float | None) -> Any:
        nonlocal now
        if timeout is None:
            return select(None)
        events = select(min(timeout, _IDLE))
        if not events:
            now += timeout
        return events

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", lambda: now)
        patch.setattr(loop._selector, "select", leap)
        yield
