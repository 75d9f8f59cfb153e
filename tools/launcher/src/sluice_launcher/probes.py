"""Is it ready? One short conversation in each server's own protocol, without a client library:
the supervisor stays small, and a half-started server says so."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from functools import wraps

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]

SECONDS = 2.0


def _over_tcp(conversation: Conversation) -> Callable[[str, int], Awaitable[bool]]:
    """False instead of an error: nobody there, a hang, nonsense."""

    @wraps(conversation)
    async def probe(host: str, port: int) -> bool:
        writer = None
        try:
            async with asyncio.timeout(SECONDS):
                reader, writer = await asyncio.open_connection(host, port)
                return await conversation(reader, writer)
        except (OSError, TimeoutError, EOFError, ValueError, struct.error):
            return False
        finally:
            if writer is not None:
                writer.close()

    return probe


@_over_tcp
async def anything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Somebody listens there."""
    return True


@_over_tcp
async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return b" 200 " in await reader.readline()


@_over_tcp
async def smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    greeting = await reader.readline()
    writer.write(b"QUIT\r\n")
    return greeting.startswith(b"220")


@_over_tcp
async def postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """It asks who we are, or lets us in; while it starts up or recovers it answers with an error instead."""
    parameters = b"user\0sluice\0database\0sluice\0\0"
    writer.write(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
    answer = await reader.readexactly(1)
    return answer == b"R"


@_over_tcp
async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """A server that wants a password first is ready, too; one that loads its data answers LOADING."""
    writer.write(b"PING\r\n")
    return (await reader.readline()).startswith((b"+PONG", b"-NOAUTH"))


@_over_tcp
async def kafka(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Its metadata names a broker: it answers earlier than that, but cannot be worked with yet."""
    # Metadata, version 1, correlation 1, client "sluice", no topics
    request = struct.pack("!hhih6si", 3, 1, 1, 6, b"sluice", 0)
    writer.write(struct.pack("!i", len(request)) + request)
    _size, _correlation, brokers = struct.unpack("!iii", await reader.readexactly(12))
    return bool(brokers > 0)
