"""The HTTP wire: httpx's inert values outside, aiohttp's connection pool inside.

httpx itself is forty times slower under concurrency. What matters here is honesty about what left the house:
``written`` turns true when a connection is ready and the first byte is about to be handed to it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from yarl import URL

from sluice.wires.call import NoAnswerError, NotSentError

LARGEST_ANSWER = 64 * 1024  # bytes; the rest is not read and the connection is thrown away
CONNECT = 3.0  # seconds for name look-up, TCP and TLS
# Seconds an idle connection is kept. Load balancers drop theirs after 60 s or more; well below that, a POST
# rarely meets a connection whose other end is closing at that moment, which could only be called Unknown.
IDLE = 12.0

_BREAK = re.compile(r"[\r\n\0]")


@dataclass(slots=True)
class _Progress:
    written: bool = False


class HttpWire:
    """One connection pool for the process; safe for any number of concurrent exchanges."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def exchange(self, request: httpx.Request, *, deadline: float) -> httpx.Response:
        """Send the request exactly once, never follow a redirect, read at most 64 KiB of the answer."""
        progress = _Progress()
        try:
            async with asyncio.timeout(deadline):
                return await self._exchange(request, progress)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise (NoAnswerError if progress.written else NotSentError)(_kind(error)) from error

    async def _exchange(self, request: httpx.Request, progress: _Progress) -> httpx.Response:
        async with self._session.request(
            request.method,
            _url(str(request.url)),
            data=request.content or None,
            headers=_headers(request),
            allow_redirects=False,
            trace_request_ctx=progress,
        ) as answer:
            body = await _read(answer)
            return _Answer(answer.status, answer.raw_headers, body)


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
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.headers.raw
        if name.lower() not in (b"host", b"content-length")
    ]
    if any(_BREAK.search(value) for _, value in headers):
        raise NotSentError("a header holds a line break; is there one in the credentials?")
    return headers


@lru_cache(maxsize=1024)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The body, cut at the cap: still enough to classify by status, and it no longer parses.

    aiohttp throws a connection away on which an answer was not read to its end.
    """
    pieces: list[bytes] = []
    left = LARGEST_ANSWER
    while left > 0 and (piece := await answer.content.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


# Reasons by kind of error, most special first: an exception's own text can hold the URL, and a URL a token.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ConnectionTimeoutError, "connecting took too long"),
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
)


def _kind(error: Exception) -> str:
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), type(error).__name__)


async def _written(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    # aiohttp calls this with the connection in hand, before it serialises the headers. From here on only the
    # operating system knows how much left, so from here on we say "maybe".
    context.trace_request_ctx.written = True


@asynccontextmanager
async def open_http(
    *, connections_per_origin: int = 100, resolver: AbstractResolver | None = None
) -> AsyncIterator[HttpWire]:
    """The pool, open while the block lasts. ``resolver``: turns names into addresses that may be dialled."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_written)
    connector = aiohttp.TCPConnector(
        limit=0, limit_per_host=connections_per_origin, keepalive_timeout=IDLE, resolver=resolver
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, connect=None),
        auto_decompress=False,
        trust_env=False,
        trace_configs=[trace],
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
    ) as session:
        yield HttpWire(session)
