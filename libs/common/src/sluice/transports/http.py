"""The HTTP transport: httpx's inert values outside, aiohttp's connection pool and parser inside.

httpx itself is forty times slower under concurrency. This module distinguishes *definitely not sent* from *may have
been sent*: an error before ``transport.write()`` raises NotSentError, an error after it raises NoAnswerError.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import NamedTuple

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from sluice.runtime.deadline import Deadline
from sluice.transports.outgoing import PUBLIC_ADDRESSES, ForbiddenAddressError, OutgoingAddresses
from sluice.transports.provider_call import NoAnswerError, NotAllowedError, NotSentError, OnProgress, ignore_progress
from sluice.transports.reasons import describe_error

MAX_RESPONSE_BYTES = 64 * 1024  # bytes; the rest is not read and the connection is thrown away
CONNECT_TIMEOUT = 3.0  # seconds for TCP and TLS; the name look-up and the wait for a connection have the deadline only
_LIMITS = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT)
# Bytes a second: a large body takes longer on a slow line, which is no sign that no response will come.
_LEAST_UPLOAD_RATE = 64 * 1024
# Seconds that an idle connection is kept. Load balancers drop theirs after 60 s or more; well below that, a POST
# rarely meets a connection whose other end is closing at that moment, which would be an unknown outcome.
IDLE_TIMEOUT = 12.0

_RESERVED_HEADERS = (b"host", b"content-length", b"transfer-encoding")  # headers that this module sets
_WITH_BODY = ("POST", "PUT", "PATCH")  # methods whose requests state a Content-Length, even of an empty body
_CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])  # may not stand in a line of a request


class HttpTransport:
    """One connection pool for the process; safe for any number of concurrent exchanges.

    It uses aiohttp without its session and its request. They would follow redirects, keep cookies, repeat requests, add
    headers and read proxies and passwords from the environment, and they cost a third of a call.
    """

    def __init__(self, pool: aiohttp.BaseConnector, timeout: float = math.inf) -> None:
        self._pool = pool
        self._timeout = timeout
        self._origins: dict[URL, aiohttp.ClientRequest] = {}  # by origin: the pool's key

    async def exchange(
        self, request: httpx.Request, *, deadline: float, on_progress: OnProgress = ignore_progress
    ) -> httpx.Response:
        """Send the request exactly once, never follow a redirect, read at most 64 KiB of the response.

        ``deadline``: seconds for everything. Raises NotSentError or NoAnswerError."""
        written = False
        seconds = min(deadline, self._limit(request))
        on_progress(seconds)
        try:
            with Deadline(seconds):
                target = _target(str(request.url))
                message = _message(request, target)
                connection = await self._connect(target.origin)
                try:
                    protocol = connection.protocol
                    assert protocol is not None
                    protocol.set_response_params(
                        skip_payload=request.method == "HEAD", read_until_eof=True, auto_decompress=False
                    )
                    # The server may have closed it while it was idle: this turn of the loop delivers that news.
                    await asyncio.sleep(0)
                    transport = connection.transport
                    if transport is None or transport.is_closing():
                        raise ConnectionResetError
                    written = True
                    transport.write(message)
                    status, headers, content = await _read_head(protocol)
                    body = await _read(content)
                    if content.at_eof() and not transport.get_write_buffer_size():
                        connection.release()
                    return _RawResponse(status, headers, body)
                finally:
                    # Unwritten bytes must not be sent after the deadline, and a late response must not be read as
                    # the response to another request.
                    if connection.protocol is not None:
                        connection.protocol.abort()
                        connection.close()
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise (NoAnswerError if written else NotSentError)(describe_error(error)) from error

    def _limit(self, request: httpx.Request) -> float:
        """Seconds that the call may take. The request's ``timeout`` extension, of httpx's form, may name a ``read``
        timeout that is longer than the transport's."""
        named: float = request.extensions.get("timeout", {}).get("read", 0.0)
        return max(self._timeout, named) + len(request.content) / _LEAST_UPLOAD_RATE

    async def _connect(self, origin: URL) -> aiohttp.connector.Connection:
        key = self._origins.get(origin)
        if key is None:
            key = self._origins[origin] = aiohttp.ClientRequest("POST", origin)
        try:
            return await self._pool.connect(key, [], _LIMITS)
        except TimeoutError as error:
            raise NotSentError("connecting took too long") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ForbiddenAddressError):
                raise NotAllowedError(str(error.os_error)) from error
            raise


class _Target(NamedTuple):
    """Where a request goes."""

    origin: URL
    host: bytes
    path: bytes  # with the query


@lru_cache(maxsize=4096)
def _target(text: str) -> _Target:
    url = URL(text, encoded=True)
    origin = url.origin()  # ValueError without a host
    return _Target(origin, str(url.host_port_subcomponent).encode(), url.raw_path_qs.encode())


def _message(request: httpx.Request, target: _Target) -> bytes:
    """The request as it is written: its own headers, Host and Content-Length.

    Raises:
        ValueError: one of them would break a line.
    """
    content = request.content
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), target.path), b"Host: " + target.host]
    lines += [b"%s: %s" % (name, value) for name, value in request.headers.raw if name.lower() not in _RESERVED_HEADERS]
    if content or request.method in _WITH_BODY:
        lines.append(b"Content-Length: %d" % len(content))
    if any(line != line.translate(None, _CONTROLS) for line in lines):
        raise ValueError("a control character in a request line or header")
    return b"\r\n".join([*lines, b"", content])


async def _read_head(protocol: ResponseHandler) -> tuple[int, Sequence[tuple[bytes, bytes]], aiohttp.StreamReader]:
    """Status, headers and body stream of the final response; interim responses are skipped."""
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code <= 199 or message.code == 101:
            return message.code, message.raw_headers, content


class _RawResponse(httpx.Response):
    """A response with its body as received.

    httpx's own constructor would undo the content coding that the headers name. No coding was requested, and a
    compressed bomb must not be unpacked.
    """

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        super().__init__(status, headers=headers, stream=httpx.ByteStream(body))
        self._body = body

    def read(self) -> bytes:
        """The body; never raises."""
        return self._body

    content = property(read)


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The body, cut at the cap: still enough to classify by status, and it no longer parses."""
    pieces: list[bytes] = []
    left = MAX_RESPONSE_BYTES
    while left > 0 and not content.at_eof():
        piece = await content.read(left)
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


@asynccontextmanager
async def open_http(
    *,
    outgoing: OutgoingAddresses = PUBLIC_ADDRESSES,
    connections_per_origin: int = 100,
    resolver: AbstractResolver | None = None,
    timeout: float = math.inf,
) -> AsyncIterator[HttpTransport]:
    """The pool, open while the block lasts.

    ``outgoing``: the addresses that may be dialled. ``resolver``: resolves names. ``timeout``: seconds for a call with
    a small body, besides the deadline of each exchange; a body adds a second for each 64 KiB.
    """
    async with aiohttp.TCPConnector(
        limit=0,
        limit_per_host=connections_per_origin,
        keepalive_timeout=IDLE_TIMEOUT,
        resolver=resolver,
        socket_factory=outgoing.socket,
    ) as pool:
        yield HttpTransport(pool, timeout)
