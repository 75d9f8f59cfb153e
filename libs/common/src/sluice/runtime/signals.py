"""The request to shut down: from a signal, or from the failure of a supervised task."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import structlog

from sluice.runtime.tasks import SUPERVISED

log = structlog.get_logger()


def shutdown_event(timeout: float) -> asyncio.Event:
    """An event that SIGTERM, SIGINT and the failure of a task of :func:`sluice.runtime.tasks.supervised` set.

    After such a failure the process exits with code 1 within ``timeout`` seconds, even if the shutdown waits for the
    failed task: a kill loses nothing, a role that waits for ever delivers nothing.
    """
    shutdown = asyncio.Event()

    def on_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if SUPERVISED not in context:
            loop.default_exception_handler(context)
            return
        log.critical("supervised_task_died", task=context[SUPERVISED], exc_info=context["exception"])
        shutdown.set()
        loop.call_later(timeout, os._exit, 1)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_fault)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shutdown.set)
    return shutdown
