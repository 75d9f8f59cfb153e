"""A minimal HTTP/1.1 server, fast enough for the fake providers of a benchmark.

A handler is called with the complete request and responds through the connection, at once or later, whole, slowly
or with a TCP reset. A request creates no task.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import cast

import httptools

from sluice.runtime.http_framing import RefusedRequestError, RequestFramer
from sluice.runtime.http_limits import RequestLimits
from sluice_simulator.dialect import FakeRequest, FakeResponse
from sluice_simulator.listener import Listener

LIMITS = RequestLimits()
MAX_BUFFERED = 1024 * 1024  # bytes of requests that wait behind the one in hand
MAX_REQUEST_BYTES = 64 * 1024 * 1024  # bytes: a mail with attachments may have 40 MB
DRIP_INTERVAL = 1.0  # seconds between two bytes

Handler = Callable[[FakeRequest, "HttpConnection"], None]

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class HttpConnection(asyncio.Protocol):
    """One client. Requests are handled one after the other, in their order."""

    def __init__(self, handler: Handler, clients: set[asyncio.Transport]) -> None:
        self._handler = handler
        self._clients = clients
        self._parser = httptools.HttpRequestParser(self)
        self._framer = RequestFramer(self._parser.feed_data, LIMITS)
        self._transport: asyncio.Transport | None = None
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self.on_lost: Callable[[], None] | None = None  # called once when the client disconnects before its response

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, without declaring it
        self._clients.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._advance(partial(self._framer.feed, data))
        if self._framer.buffered > MAX_BUFFERED:
            self.reset()

    def connection_lost(self, _: Exception | None) -> None:
        if self._transport is not None:
            self._clients.discard(self._transport)
        self._transport = None
        if self.on_lost is not None:
            lost, self.on_lost = self.on_lost, None
            lost()

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body, self._size = b"", {}, [], 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._framer.body(
            length=int(self._headers.get(b"content-length", b"0")), chunked=b"transfer-encoding" in self._headers
        )

    def on_body(self, piece: bytes) -> None:
        self._body.append(piece)
        self._size += len(piece)
        if self._size > MAX_REQUEST_BYTES:
            self.reset()

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode("ascii")
        path, _, query = self._target.decode("latin-1").partition("?")
        self._framer.complete()
        self._handler(FakeRequest(method, path, self._headers, b"".join(self._body), query), self)

    def _advance(self, parse: Callable[[], None]) -> None:
        try:
            parse()
        except (RefusedRequestError, httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.reset()

    # Called by the handler.

    @property
    def lost(self) -> bool:
        return self._transport is None

    def respond(self, response: FakeResponse) -> bool:
        """Write the whole response; False when the client has disconnected."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(encode_response(response))
        self._done()
        return True

    def drip(self, response: FakeResponse) -> None:
        """Write the response, one byte a second."""
        self._drip(memoryview(encode_response(response)))

    def _drip(self, rest: memoryview) -> None:
        if self._transport is None or not rest:
            self._done()
            return
        self._transport.write(rest[:1])
        asyncio.get_running_loop().call_later(DRIP_INTERVAL, self._drip, rest[1:])

    def reset(self) -> None:
        """Cut the connection with a TCP RST."""
        if self._transport is not None:
            reset(self._transport)

    def _done(self) -> None:
        self.on_lost = None
        if self._transport is not None:
            # Later: the parser may still be in the callback that ended the request.
            asyncio.get_running_loop().call_soon(self._advance, self._framer.next_request)


def reset(transport: asyncio.Transport) -> None:
    """Close with a TCP RST instead of a FIN; unsent data is discarded."""
    client = transport.get_extra_info("socket")
    if client is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def encode_response(response: FakeResponse) -> bytes:
    """The response in bytes."""
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, '')}"]
    if not any(name.lower() == "content-type" for name, _ in response.headers):
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in response.headers]
    lines.append(f"Content-Length: {len(response.body)}\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1") + response.body


async def listen_http(handler: Handler, host: str, port: int) -> Listener:
    """Serve until the listener is closed; ``port`` 0 takes a free one."""
    listener = Listener()
    await listener.open(lambda: HttpConnection(handler, listener.clients), host, port)
    return listener
