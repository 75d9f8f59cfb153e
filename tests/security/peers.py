"""Connections of an attacker: bytes as they are, from an address of its own, without a client library's manners."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

ADDRESS = "127.0.0.2"  # not the other tenant's: limits by address would hit both


@dataclass
class Target:
    """A gateway under attack, what the attacker has of it, and what it answered.

    ``key``: an API key of the attacker's own project; ``message``: the id of a large message of it;
    ``provider``: the id of a provider of it whose receipts are signed.
    """

    host: str
    port: int
    key: str
    message: str
    provider: str
    seconds: float
    answers: dict[str, int] = field(default_factory=dict)
    deadline: float = 0.0

    @property
    def time_left(self) -> float:
        return self.deadline - time.monotonic()

    def begin(self) -> None:
        self.deadline = time.monotonic() + self.seconds

    def count(self, answer: bytes) -> None:
        """Count an answer by its status; a closed connection counts as such."""
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "closed"
        self.answers[status] = self.answers.get(status, 0) + 1

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection from the attacker's address."""
        reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=(ADDRESS, 0))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def send(self, pieces: AsyncIterator[bytes] | bytes) -> None:
        """Send on a connection of its own until the gateway closes it or the time is over, and count the answer."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(max(0.1, self.time_left)), self.connection() as (reader, writer):
                answered = asyncio.ensure_future(reader.readline())
                try:
                    if isinstance(pieces, bytes):
                        writer.write(pieces)
                        await _drain_unless(answered, writer)
                    else:
                        async for piece in pieces:
                            writer.write(piece)
                            await _drain_unless(answered, writer)
                            if answered.done():
                                break
                    self.count(await answered)
                finally:
                    answered.cancel()


async def _drain_unless(answered: asyncio.Future[bytes], writer: asyncio.StreamWriter) -> None:
    """Wait until the peer has read, or has answered without reading."""
    drained: asyncio.Task[None] = asyncio.create_task(writer.drain())
    waiting: set[asyncio.Future[Any]] = {drained, answered}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if drained.done():
        drained.result()
    drained.cancel()


async def repeat(target: Target, width: int, once: Callable[[], Awaitable[None]]) -> None:
    """``once`` again and again, ``width`` at a time, until the time is over."""

    async def one() -> None:
        while target.time_left > 0:
            try:
                async with asyncio.timeout(max(0.1, target.time_left)):
                    await once()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.01)

    await asyncio.gather(*[one() for _ in range(width)])


def request(path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request; with a body its length is declared."""
    lines = [f"{method} {path} HTTP/1.1", "Host: sluice", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
