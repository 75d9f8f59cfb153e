"""Turns: how connections with large bodies share the event loop with everything else."""

from __future__ import annotations

import asyncio
from collections import deque

from uvicorn.protocols.http.flow_control import FlowControl

_LARGE_READS = 1  # reads of large bodies in one turn of the event loop


class Turns:
    """Connections with large bodies read by turns: in each turn of the event loop a few of them.

    A loop that reads from hundreds of connections between two steps of another request delays that by all of them.
    """

    def __init__(self) -> None:
        self._waiting: deque[FlowByTurns] = deque()
        self._is_scheduled = False

    def wait(self, flow: FlowByTurns) -> None:
        """Let ``flow`` read once when its turn comes."""
        self._waiting.append(flow)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._is_scheduled = False
        for _ in range(min(_LARGE_READS, len(self._waiting))):
            self._waiting.popleft().begin_turn()
        if self._waiting:
            self._schedule()


class FlowByTurns(FlowControl):
    """Flow control whose connection may read when the application wants more and its turn has come."""

    def __init__(self, transport: asyncio.Transport, turns: Turns) -> None:
        super().__init__(transport)
        self._turns = turns
        self._is_waiting = self._is_wanted_later = False

    def resume_reading(self) -> None:
        """Read on, now or when the turn comes."""
        if self._is_waiting:
            self._is_wanted_later = True
        else:
            super().resume_reading()

    def pause_reading(self) -> None:
        """Read nothing more until :meth:`resume_reading`."""
        self._is_wanted_later = False
        super().pause_reading()

    def end_turn(self) -> None:
        """Read nothing until the others have had their turn."""
        if not self._is_waiting:
            wanted = not self.read_paused
            self.pause_reading()
            self._is_waiting, self._is_wanted_later = True, wanted
            self._turns.wait(self)

    def begin_turn(self) -> None:
        """The turn has come."""
        self._is_waiting = False
        if self._is_wanted_later and not self._transport.is_closing():
            self.resume_reading()
