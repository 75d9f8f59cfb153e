"""Waiting for a condition, with a deadline instead of a fixed sleep."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

TIMEOUT = 20.0  # seconds; far more than any condition takes on a busy machine
_POLL_INTERVAL = 0.02  # seconds


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
