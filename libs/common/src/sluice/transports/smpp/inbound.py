"""Stores what an SMSC delivers, before it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from sluice.providers.kit.smpp_status import ROK, RX_T_APPN
from sluice.runtime.tasks import TaskSet
from sluice.transports.smpp.contract import SessionHandler
from sluice.transports.smpp.pdu import ShortMessage

log = structlog.get_logger()


class InboundStores:
    """The stores in progress of one session, at most ``limit`` of them, over all its connections.

    A message above the limit is refused for now instead of delaying the reader, which also reads the answers to what
    was submitted.
    """

    def __init__(self, handler: SessionHandler, *, limit: int, timeout: float) -> None:
        self._handler = handler
        self._limit = limit
        self._timeout = timeout
        self._running = 0
        self._tasks = TaskSet()

    def begin(self, message: ShortMessage, answer: Callable[[int], None]) -> None:
        """Store a message in a task; ``answer`` gets the command_status of the deliver_sm_resp."""
        if self._running >= self._limit:
            log.warning("smpp_inbound_refused", concurrent_stores=self._running)
            answer(RX_T_APPN)
            return
        self._running += 1
        self._tasks.spawn(self._store(message, answer))

    async def _store(self, message: ShortMessage, answer: Callable[[int], None]) -> None:
        status = RX_T_APPN
        try:
            async with asyncio.timeout(self._timeout):
                await self._handler.store(message)
            status = ROK
        except Exception as error:  # without its text, which may quote the message
            log.error("smpp_store_failed", error=type(error).__name__)
        finally:
            self._running -= 1
            answer(status)

    async def join(self) -> None:
        """Return when no store is in progress."""
        await self._tasks.join()

    async def cancel(self) -> None:
        """Cancel the stores in progress; their messages are refused for now."""
        await self._tasks.cancel()
