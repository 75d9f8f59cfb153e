"""The HTTP wire: httpx's inert values outside, aiohttp's connection pool and parser inside.

httpx itself is forty times slower under concurrency. What matters here is honesty about what left the house: up to
the one line that hands a request to its connection nothing of it was sent, and after it we say "maybe".
"""

from __future__ import annotations

import asyncio
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
from sluice.transports.provider_call import NoAnswerError, NotSentError

MAX_RESPONSE_BYTES = 64 * 1024  # bytes; the rest is not read and the connection is thrown away
CONNECT_TIMEOUT = 3.0  # seconds for TCP and TLS; the name look-up and the wait for a connection have the deadline only
_LIMITS = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT)
# Seconds an idle connection is kept. Load balancers drop theirs after 60 s or more; well below that, a POST
# rarely meets a connection whose other end is closing at that moment, which could only be called Unknown.
IDLE_TIMEOUT = 12.0

_RESERVED_HEADERS = (b"host", b"content-length", b"transfer-encoding")  # headers that the wire sets
_WITH_BODY = ("POST", "PUT", "PATCH")  # methods whose requests say how long their body is, even an empty one
_CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])  # may not stand in a line of a request


class HttpTransport:
    """One connection pool for the process; safe for any number of concurrent exchanges.

    It uses aiohttp without its session and its request: what they add must not happen here (redirects, cookies,
    repeats, headers of their own, the environment's proxies and passwords), and cost a third of a call.
    """

    def __init__(self, pool: aiohttp.BaseConnector) -> None:
        self._pool = pool
        self._origins: dict[URL, aiohttp.ClientRequest] = {}  # by origin: how the pool wants to be asked

    async def exchange(self, request: httpx.Request, *, deadline: float) -> httpx.Response:
        """Send the request exactly once, never follow a redirect, read at most 64 KiB of the answer."""
        written = False
        try:
            with Deadline(deadline):
                place = _target(str(request.url))
                message = _message(request, place)
                connection = await self._connect(place.origin)
                try:
                    protocol = connection.protocol
                    assert protocol is not None
                    protocol.set_response_params(
                        skip_payload=request.method == "HEAD", read_until_eof=True, auto_decompress=False
                    )
                    # The other end may have closed it while it lay in the pool: the event loop hears of that now.
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
                    # What is still unwritten must not be sent after we have given up, and what is still to come
                    # must not be taken for an answer to somebody else.
                    if connection.protocol is not None:
                        connection.protocol.abort()
                        connection.close()
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise (NoAnswerError if written else NotSentError)(_classify_error(error)) from error

    async def _connect(self, origin: URL) -> aiohttp.connector.Connection:
        asked = self._origins.get(origin)
        if asked is None:
            asked = self._origins[origin] = aiohttp.ClientRequest("POST", origin)
        try:
            return await self._pool.connect(asked, [], _LIMITS)
        except TimeoutError as error:
            raise NotSentError("connecting took too long") from error


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


def _message(request: httpx.Request, place: _Target) -> bytes:
    """The request as it goes over the connection: its own headers and those that say where to and how long.

    Raises:
        ValueError: one of them would break a line.
    """
    content = request.content
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), place.path), b"Host: " + place.host]
    lines += [b"%s: %s" % (name, value) for name, value in request.headers.raw if name.lower() not in _RESERVED_HEADERS]
    if content or request.method in _WITH_BODY:
        lines.append(b"Content-Length: %d" % len(content))
    if any(line != line.translate(None, _CONTROLS) for line in lines):
        raise ValueError("a control character in a request line or header")
    return b"\r\n".join([*lines, b"", content])


async def _read_head(protocol: ResponseHandler) -> tuple[int, Sequence[tuple[bytes, bytes]], aiohttp.StreamReader]:
    """Status, headers and body to come of the answer proper; interim answers go before it."""
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code <= 199 or message.code == 101:
            return message.code, message.raw_headers, content


class _RawResponse(httpx.Response):
    """An answer with its body as it came.

    httpx's own constructor would undo the coding that the headers name. We ask for none, and a compressed bomb must
    not be unpacked because somebody sends one all the same.
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


# Reasons by kind of error, most special first: an exception's own text can hold the URL, and a URL a token.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the host name was not found"),
    (aiohttp.ClientConnectorCertificateError, "the server's certificate is not valid"),
    (aiohttp.ClientSSLError, "TLS failed"),
    (aiohttp.ClientConnectorError, "the connection was refused"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection"),
    (aiohttp.ClientPayloadError, "the answer broke off"),
    (HttpProcessingError, "the answer was not HTTP"),
    (aiohttp.InvalidURL, "the address is not valid"),
    (ConnectionResetError, "the connection was reset"),
    (TimeoutError, "the deadline has passed"),
    (OSError, "the connection broke"),
    (ValueError, "the request cannot be written; is there a line break in the credentials?"),
)


def _classify_error(error: Exception) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), type(error).__name__)


@asynccontextmanager
async def open_http(
    *, connections_per_origin: int = 100, resolver: AbstractResolver | None = None
) -> AsyncIterator[HttpTransport]:
    """The pool, open while the block lasts. ``resolver``: turns names into addresses that may be dialled."""
    async with aiohttp.TCPConnector(
        limit=0, limit_per_host=connections_per_origin, keepalive_timeout=IDLE_TIMEOUT, resolver=resolver
    ) as pool:
        yield HttpTransport(pool)
