"""Beginning, keeping and ending background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

SUPERVISED = "lasting"
"""In the context of the event loop's exception handler: the name of a task of :func:`lasting` that has died."""

_RETRY_DELAY = 1.0  # seconds before a cancellation that got lost is repeated


def supervised(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    """Begin ``work`` that is to last until :func:`end`.

    When it dies before, of a fault that it does not handle, the event loop's exception handler hears of it at once: a
    role stops then (:func:`sluice.runtime.http_server.stop_event`), for nobody would miss the work before the role ends.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_report_death)
    return task


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        name = task.get_name()
        context = {"message": f"{name} has died", "exception": error, "task": task, SUPERVISED: name}
        task.get_loop().call_exception_handler(context)


class TaskSet:
    """Tasks that nobody awaits one by one. They are kept here, for the event loop alone would let them be collected."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None  # asking for it costs a system call each time
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin ``work``."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def join(self) -> None:
        """Return when all has ended, well or not, and what was begun meanwhile too."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Cancel what is under way, and return when it has ended."""
        await cancel_and_wait(*self._tasks)


async def cancel_and_wait(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their end; what one of them had failed with before is raised.

    A cancellation can get lost: ``asyncio.wait_for`` of Python 3.11 swallows it when what it waits for finishes at the
    same moment, here and inside libraries. So it is repeated until the task has ended.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_RETRY_DELAY)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
