"""The HTTP wire: httpx's inert values outside, aiohttp's connection pool inside.

httpx itself is forty times slower under concurrency. What matters here is honesty about what left the house:
``written`` turns true when a connection is ready and the first byte is about to be handed to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, AbstractStreamWriter
from yarl import URL

from sluice.wires.call import NoAnswerError, NotSentError
from sluice.wires.deadline import Deadline

LARGEST_ANSWER = 64 * 1024  # bytes; the rest is not read and the connection is thrown away
CONNECT = 3.0  # seconds for TCP and TLS; the name look-up and the wait for a connection have the deadline only
_LIMITS = aiohttp.ClientTimeout(sock_connect=CONNECT)
# Seconds an idle connection is kept. Load balancers drop theirs after 60 s or more; well below that, a POST
# rarely meets a connection whose other end is closing at that moment, which could only be called Unknown.
IDLE = 12.0


class _Body(aiohttp.BytesPayload):
    """A request's body. ``written``: its sending has begun.

    aiohttp asks for the body when a connection is in hand, and holds the headers back to send both at once. From then
    on only the operating system knows how much left, so from then on we say "maybe".
    """

    written = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Hand the request over; ConnectionResetError without a byte written when the other end is gone already."""
        if writer.transport is None or writer.transport.is_closing():
            raise ConnectionResetError("closed while it lay in the pool")
        self.written = True
        await super().write_with_length(writer, content_length)


class _Request(aiohttp.ClientRequest):
    """A request with the headers that it was given, and of its own only Host and those that tell of the body."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Add nothing."""


class HttpWire:
    """One connection pool for the process; safe for any number of concurrent exchanges.

    It uses aiohttp without its session: what that adds to a request is what must not happen here (redirects, cookies,
    repeats, the environment's proxies and passwords), and leaving it out takes a seventh off a call.
    """

    def __init__(self, pool: aiohttp.BaseConnector) -> None:
        self._pool = pool

    async def exchange(self, request: httpx.Request, *, deadline: float) -> httpx.Response:
        """Send the request exactly once, never follow a redirect, read at most 64 KiB of the answer."""
        body = _Body(request.content)
        try:
            with Deadline(deadline):
                return await self._exchange(request, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise (NoAnswerError if body.written else NotSentError)(_kind(error)) from error

    async def _exchange(self, request: httpx.Request, body: _Body) -> httpx.Response:
        asked = _Request(request.method, _url(str(request.url)), headers=_headers(request), data=body)
        connection = await self._connect(asked)
        answer: aiohttp.ClientResponse | None = None
        try:
            assert connection.protocol is not None
            connection.protocol.set_response_params(
                skip_payload=asked.method == "HEAD", read_until_eof=True, auto_decompress=False
            )
            answer = await asked.send(connection)
            await answer.start(connection)
            return _Answer(answer.status, answer.raw_headers, await _read(answer.content))
        finally:
            # An answer that was read to its end has given its connection back. Any other connection is of no more
            # use, and what is still unwritten must not be sent after we have given up.
            if connection.protocol is not None:
                connection.protocol.abort()
                (answer or connection).close()

    async def _connect(self, asked: _Request) -> aiohttp.connector.Connection:
        try:
            return await self._pool.connect(asked, [], _LIMITS)
        except TimeoutError as error:
            raise NotSentError("connecting took too long") from error


class _Answer(httpx.Response):
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


def _headers(request: httpx.Request) -> list[tuple[str, str]]:
    """The request's headers; Host and Content-Length are aiohttp's to set."""
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.headers.raw
        if name.lower() not in (b"host", b"content-length")
    ]


@lru_cache(maxsize=1024)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The body, cut at the cap: still enough to classify by status, and it no longer parses."""
    pieces: list[bytes] = []
    left = LARGEST_ANSWER
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
    (aiohttp.ClientResponseError, "the answer was not HTTP"),
    (aiohttp.InvalidURL, "the address is not valid"),
    (ConnectionResetError, "the connection was reset"),
    (TimeoutError, "the deadline has passed"),
    (OSError, "the connection broke"),
    (ValueError, "the request cannot be written; is there a line break in the credentials?"),
)


def _kind(error: Exception) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), type(error).__name__)


@asynccontextmanager
async def open_http(
    *, connections_per_origin: int = 100, resolver: AbstractResolver | None = None
) -> AsyncIterator[HttpWire]:
    """The pool, open while the block lasts. ``resolver``: turns names into addresses that may be dialled."""
    async with aiohttp.TCPConnector(
        limit=0, limit_per_host=connections_per_origin, keepalive_timeout=IDLE, resolver=resolver
    ) as pool:
        yield HttpWire(pool)
