"""Waiting for something to become true, with a deadline instead of a sleep."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

TIMEOUT = 20.0  # seconds; far more than anything here takes on a busy machine
_POLL_INTERVAL = 0.02  # seconds


async def wait_until(condition: Callable[[], Any], within: float = TIMEOUT) -> Any:
    """What ``condition`` returns (or the coroutine that it returns) as soon as that is true."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come to pass within {within:.0f} s; at last it was {found!r}")
        await asyncio.sleep(_POLL_INTERVAL)
