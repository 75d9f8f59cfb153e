"""Readiness probes: one short exchange in each server's own protocol, without a client library, so that the
supervisor stays small. A probe returns False for a server that listens and is not ready yet."""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from functools import wraps

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]

SECONDS = 2.0

_READYZ = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def _over_tcp(conversation: Conversation) -> Callable[[str, int], Awaitable[bool]]:
    """False instead of an error: refused, timed out, not the protocol."""

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
    """The port is open."""
    return True


@_over_tcp
async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """``GET /readyz`` returns 200."""
    writer.write(_READYZ)
    return b" 200 " in await reader.readline()


async def http_reason(host: str, port: int) -> str | None:
    """The reason that ``GET /readyz`` states for a process that is not ready; None without one."""
    reason = None

    @_over_tcp
    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonlocal reason
        writer.write(_READYZ)
        _head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        reason = json.loads(body)["reason"]
        return True

    await read(host, port)
    return reason


@_over_tcp
async def http_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """``GET /livez`` is answered, whatever the answer: the event loop runs."""
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return (await reader.readline()).startswith(b"HTTP/1.1 ")


@_over_tcp
async def smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """The greeting is 220."""
    greeting = await reader.readline()
    writer.write(b"QUIT\r\n")
    return greeting.startswith(b"220")


@_over_tcp
async def postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """It requests or grants authentication; while it starts up or recovers it returns an error instead."""
    parameters = b"user\0sluice_owner\0database\0sluice\0\0"
    writer.write(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
    answer = await reader.readexactly(1)
    return answer == b"R"


@_over_tcp
async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """A server that requires a password is ready, too; one that loads its data returns LOADING."""
    writer.write(b"PING\r\n")
    return (await reader.readline()).startswith((b"+PONG", b"-NOAUTH"))


@_over_tcp
async def kafka(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Its metadata contains a broker; before that it responds but is not usable."""
    # Metadata, version 1, correlation 1, client "sluice", no topics
    request = struct.pack("!hhih6si", 3, 1, 1, 6, b"sluice", 0)
    writer.write(struct.pack("!i", len(request)) + request)
    _size, _correlation, brokers = struct.unpack("!iii", await reader.readexactly(12))
    return bool(brokers > 0)


async def kafka_with_login(password: str, host: str, port: int) -> bool:
    """As :func:`kafka`, of a broker whose clients log in."""
    from aiokafka.conn import create_conn
    from aiokafka.errors import KafkaError
    from aiokafka.protocol.metadata import MetadataRequest

    connection = None
    try:
        async with asyncio.timeout(SECONDS):
            connection = await create_conn(
                host,
                port,
                security_protocol="SASL_PLAINTEXT",
                sasl_mechanism="SCRAM-SHA-512",
                sasl_plain_username="sluice",
                sasl_plain_password=password,
            )
            return bool((await connection.send(MetadataRequest([]))).brokers)
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        if connection is not None:
            connection.close()
