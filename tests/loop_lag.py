"""How long the event loop of a test stood still."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sluice.runtime.tasks import cancel_and_wait

LIMIT = 0.3  # seconds; alone it is below 0.05, beside other tests on two cores it was 0.15; without bounds 0.7 to 2


class LoopLag:
    """``worst``: seconds, the longest time in which no other task ran."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def _watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.worst, last = max(self.worst, now - last), now


@asynccontextmanager
async def loop_lag() -> AsyncIterator[LoopLag]:
    """The lag of the running loop while the block runs."""
    lag = LoopLag()
    gc.collect()  # what earlier tests left is not collected in the block
    task = asyncio.create_task(lag._watch())
    await asyncio.sleep(0.01)
    try:
        yield lag
        await asyncio.sleep(0.01)
    finally:
        await cancel_and_wait(task)
