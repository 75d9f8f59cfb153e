"""Starting, keeping and ending background tasks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SUPERVISED = "supervised"
"""In the context of the event loop's exception handler: the name of a :func:`supervised` task that failed."""

_RETRY_DELAY = 1.0  # seconds before a cancellation that was lost is repeated


def supervised(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    """Start a background task that runs until :func:`cancel_and_wait`.

    If it fails, the event loop's exception handler shuts the role down
    (:func:`sluice.runtime.signals.shutdown_event`), so that a dead background task is never ignored.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_report_death)
    return task


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        name = task.get_name()
        context = {"message": f"{name} has died", "exception": error, "task": task, SUPERVISED: name}
        task.get_loop().call_exception_handler(context)


async def run_unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of ``work``, or None if ``event`` is set first; ``work`` is cancelled then."""
    working = asyncio.ensure_future(work)
    setting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([working, setting], return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        setting.cancel()
        await cancel_and_wait(working)


class TaskSet:
    """Tasks that are not awaited one by one. The set keeps them: the event loop alone holds weak references."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None  # asking for it costs a system call each time
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start ``work``."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def join(self, within: float = math.inf) -> None:
        """Wait until all tasks have ended, with or without an error, including those that start meanwhile.

        What has not ended ``within`` seconds is cancelled.
        """
        ends_at = time.monotonic() + within
        while self._tasks:
            left = ends_at - time.monotonic()
            if left <= 0:
                await self.cancel()
            else:
                await asyncio.wait(self._tasks, timeout=None if left == math.inf else left)

    async def cancel(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        await cancel_and_wait(*self._tasks)


def place_of(task: asyncio.Task[Any]) -> str:
    """Where a task waits: the names of its coroutines from the outermost, with the line of the innermost."""
    names: list[str] = []
    line = 0
    waits: Any = task.get_coro()
    while (frame := getattr(waits, "cr_frame", None)) is not None:
        names.append(frame.f_code.co_qualname)
        line = frame.f_lineno
        waits = waits.cr_await
    return f"{' > '.join(names)}:{line}" if names else "no coroutine: it has ended"


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended; an error with which one of them failed is raised.

    A cancellation can be lost: ``asyncio.wait_for`` of Python 3.11 swallows it when its inner future finishes at the
    same moment, here and inside libraries. Therefore it is repeated until the task has ended.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_RETRY_DELAY)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
