"""Ending background tasks."""

from __future__ import annotations

import asyncio

_AGAIN = 1.0  # seconds before a cancellation that got lost is repeated


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their end; what one of them had failed with before is raised.

    A cancellation can get lost: ``asyncio.wait_for`` of Python 3.11 swallows it when what it waits for finishes at the
    same moment, here and inside libraries. So it is repeated until the task has ended.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_AGAIN)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
