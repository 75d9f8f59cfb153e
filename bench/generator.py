"""One process of the load generator: `python -m bench.generator COUNTERS`, offers on stdin, summaries on stdout.

Lean on purpose: on two cores it competes with what it measures. Requests are bytes with two holes, connections are
bare protocols with one request in flight, and one timer fires at the next arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from array import array
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from bench import counters
from bench.arrivals import draw, share
from bench.clock import Timer, first_in_line, now
from bench.counters import Counters
from bench.traffic import STREAM_SPAN, Offer

COLUMNS = 5  # of a result: number, intended, lag, answered (0: never), status (0: none)
TICK = 0.001  # seconds between two looks at the window


class _Connection(asyncio.Protocol):
    __slots__ = ("_buffer", "_owner", "_transport", "busy_with", "closed", "pool")

    def __init__(self, owner: _Run, pool: _Pool) -> None:
        self._owner = owner
        self.pool = pool
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.busy_with = -1
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = True
        if self.busy_with >= 0:
            row, self.busy_with = self.busy_with, -1
            self._owner.broken(row)
        self._owner.gone(self)

    def send(self, row: int, request: bytes) -> None:
        assert self._transport is not None
        self.busy_with = row
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _length(data, head):
            self._buffer = data
            return
        self._buffer = b""
        row, self.busy_with = self.busy_with, -1
        if row >= 0:
            self._owner.answered(self, row, int(data[9:12]))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _length(data: bytes, head: int) -> int:
    lowered = data[:head].lower()
    start = lowered.find(b"content-length:")
    if start < 0:
        return 0
    end = lowered.find(b"\r\n", start)
    return int(lowered[start + 15 : end if end > 0 else None])


@dataclass(eq=False, slots=True)
class _Pool:
    """The connections of one stream: no stream waits behind the requests of another one, as with two clients."""

    idle: list[_Connection] = field(default_factory=list)
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    size: int = 0  # connections that are open or being opened


class _Run:
    """One offer being made."""

    def __init__(self, offer: Offer, counted: Counters) -> None:
        self._offer = offer
        self._counted = counted
        self._timer = Timer()
        self._pools = [_Pool() for _ in offer.streams]
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._rows = array("d")
        self._open = 0  # requests without an answer
        self._finished = asyncio.Event()
        self._due: list[tuple[float, int, int]] = []  # when, number, stream
        self._next = 0
        self._templates = [stream.template.encode("latin-1") for stream in offer.streams]
        self._keys = [[key.encode("latin-1") for key in stream.keys] for stream in offer.streams]
        self._window = next((stream for stream in offer.streams if stream.kind == "window"), None)
        self._window_sent = 0
        self._over = False

    async def make(self) -> dict[str, object]:
        """Send everything, wait for the answers, and write the result."""
        offer = self._offer
        self._draw()
        for pool in self._pools:
            for _ in range(offer.connections):
                self._connect(pool)
        await asyncio.gather(*self._opening, return_exceptions=True)
        late = now() - offer.start
        loop = asyncio.get_running_loop()
        loop.add_reader(self._timer.fd, self._tick)
        gc.collect()
        gc.freeze()
        gc.disable()
        self._timer.set(self._due[0][0] if self._due else offer.start)
        try:
            async with asyncio.timeout(max(0.0, offer.start - now()) + offer.seconds + offer.response_timeout):
                await self._finished.wait()
        except TimeoutError:
            pass
        finally:
            gc.enable()
            loop.remove_reader(self._timer.fd)
            self._timer.close()
            for connection in list(self._all):
                connection.close()
            for task in self._opening:
                task.cancel()
        Path(offer.result).write_bytes(self._rows.tobytes())  # noqa: ASYNC240  nothing else is to be done meanwhile
        return {
            "drawn": len(self._due),
            "sent": len(self._rows) // COLUMNS,
            "unanswered": self._open,
            "late_start": late,
            "connections": len(self._all),
        }

    def _draw(self) -> None:
        offer = self._offer
        for position, stream in enumerate(offer.streams):
            if stream.kind == "window":
                continue
            end = offer.seconds if stream.end is None else stream.end
            times = draw(stream.kind, stream.rate, end - stream.begin, offer.seed * 10 + position)
            base = offer.start + stream.begin
            self._due += [
                (base + moment, position * STREAM_SPAN + number, position)
                for number, moment in share(times, offer.index, offer.of)
            ]
        self._due.sort()
        if self._window is not None:
            self._window_position = offer.streams.index(self._window)
            self._window_pool = self._pools[self._window_position]
            self._failed_before = sum(self._counted[slot] for slot in counters.FAILED)
            self._calls_before = self._counted[counters.CALLS]
            self._sent_before = sum(self._counted[slot] for slot in counters.SENT)

    def _tick(self) -> None:
        self._timer.take()
        self._arrive()
        if self._window is not None:
            self._fill_window()
        self._set_timer()

    def _set_timer(self) -> None:
        moment = self._due[self._next][0] if self._next < len(self._due) else None
        if self._window is not None and not self._over:
            moment = min(moment or now() + TICK, now() + TICK)
        if moment is not None:
            self._timer.set(moment)
        else:
            self._perhaps_finished()

    # -- open loop

    def _arrive(self) -> None:
        moment = now()
        due = self._due
        while self._next < len(due) and due[self._next][0] <= moment:
            intended, number, position = due[self._next]
            self._next += 1
            self._send(intended, moment - intended, number, position)
            moment = now()

    # -- closed over the whole pipeline: only to find how much it can carry

    def _fill_window(self) -> None:
        offer, stream = self._offer, self._window
        assert stream is not None
        moment = now()
        if moment < offer.start:
            return
        end = offer.seconds if stream.end is None else stream.end
        most = stream.most if stream.most is not None else STREAM_SPAN
        counted = self._counted
        while not self._over and self._window_pool.idle:
            number = offer.index + offer.of * self._window_sent
            if moment - offer.start >= end or number >= most:
                self._over = True
                self._perhaps_finished()
                return
            sent = counted[0] + counted[1] - self._sent_before
            failed = counted[2] + counted[3] - self._failed_before
            if sent - failed - (counted[counters.CALLS] - self._calls_before) >= offer.window:
                return
            self._window_sent += 1
            counted[counters.SENT[offer.index]] += 1
            self._send(moment, 0.0, self._window_position * STREAM_SPAN + number, self._window_position)

    # -- requests and answers

    def _send(self, intended: float, lag: float, number: int, position: int) -> None:
        row = len(self._rows)
        self._rows.extend((number, intended, lag, 0.0, 0.0))
        self._open += 1
        keys = self._keys[position]
        request = self._templates[position] % {b"n": b"%09d" % number, b"key": keys[number % len(keys)]}
        pool = self._pools[position]
        if pool.idle:
            pool.idle.pop().send(row, request)
            return
        pool.waiting.append((row, request))
        if pool.size < self._offer.most_connections:
            self._connect(pool)

    def answered(self, connection: _Connection, row: int, status: int) -> None:
        self._rows[row + 3] = now()
        self._rows[row + 4] = status
        self._settled(status)
        self._free(connection)
        if self._window is not None:
            self._fill_window()
        self._perhaps_finished()

    def broken(self, row: int) -> None:
        """The connection was lost before the answer: the request may have been taken."""
        self._settled(0)
        self._perhaps_finished()

    def _settled(self, status: int) -> None:
        self._open -= 1
        if self._window is not None and not 200 <= status < 300:
            self._counted[counters.FAILED[self._offer.index]] += 1

    def gone(self, connection: _Connection) -> None:
        if connection not in self._all:
            return  # see _opened
        self._all.remove(connection)
        connection.pool.size -= 1
        if connection in connection.pool.idle:
            connection.pool.idle.remove(connection)

    def _free(self, connection: _Connection) -> None:
        """It takes the next request of its stream."""
        if connection.pool.waiting:
            connection.send(*connection.pool.waiting.popleft())
        else:
            connection.pool.idle.append(connection)

    def _perhaps_finished(self) -> None:
        window_over = self._window is None or self._over
        if self._next >= len(self._due) and window_over and not self._open and now() > self._offer.start:
            self._finished.set()

    def _connect(self, pool: _Pool) -> None:
        pool.size += 1
        task = asyncio.ensure_future(self._opened(pool))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _opened(self, pool: _Pool) -> None:
        offer = self._offer
        with contextlib.suppress(OSError):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self, pool), offer.host, offer.port
            )
            if not connection.closed:
                self._all.add(connection)
                self._free(connection)
                return
        pool.size -= 1
        if pool.waiting:
            # The connection was refused: the request was not taken.
            self.broken(pool.waiting.popleft()[0])


async def _serve(path: Path) -> None:
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps({"priority": first_in_line(real_time=True)}), flush=True)
    with Counters(path) as counted:
        while line := await reader.readline():
            print(json.dumps(await _Run(Offer.read(line.decode()), counted).make()), flush=True)


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
