"""uvicorn's HTTP protocol with limits for what a client can make grow or keep waiting, and with fewer system calls.

One request of a connection is in hand at a time; what the client sends after it waits, unparsed. A request that breaks
HTTP or a limit gets one answer, and the connection is closed.
"""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sluice.runtime import metrics
from sluice.runtime.http_connections import ConnectionLimiter
from sluice.runtime.http_framing import RefusedRequestError, RequestFramer
from sluice.runtime.http_limits import ConnectionLimits
from sluice.runtime.http_turns import FlowByTurns, Turns
from sluice.runtime.timers import Timer, timer_wheel

_MAX_BUFFERED = 65_536  # bytes of a response that are held back to be written together; of later requests, unparsed
_MAX_UNREAD = 262_144  # bytes of a body that are read and discarded to keep the connection
# Bytes that are read and discarded so that the client reads the answer: many read it when all of the body is sent, and
# lose it where the connection is reset before. More than the largest body of a message.
_MAX_DISCARDED = 48 << 20
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_LARGE_BODY = 65_536  # bytes from which a body is read by turns
_LINGER = 2.0  # seconds in which a client may read the answer to a refused request


class _CoalescingTransport:
    """A connection that sends everything written in one turn of the event loop with one system call.

    uvicorn writes head and body of a response separately; the second call was a sixth of the gateway's CPU time.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write before the loop waits again; a long response is written at once, so that flow control sees it."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MAX_BUFFERED:
            self._flush()

    def close(self) -> None:
        """Write what is buffered, then close."""
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        """Write what is buffered, then end this direction of the connection."""
        self._flush()
        self._transport.write_eof()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts, self._size = [], 0
            if not self._transport.is_closing():
                self._transport.write(data)


class _TimerLoop:
    """The part of an event loop that a connection uses, with cheap timers: uvicorn starts one after each response."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.create_task = loop.create_task
        self.call_later = timer_wheel(loop).call_later
        self.call_soon = loop.call_soon
        self.time = loop.time


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. Subclasses name the limits, the limiter and the turns of their server."""

    limits: ConnectionLimits
    limiter: ConnectionLimiter
    turns: Turns
    flow: FlowByTurns

    # Called by asyncio.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.loop = cast(asyncio.AbstractEventLoop, _TimerLoop(self.loop))
        super().connection_made(cast(asyncio.Transport, _CoalescingTransport(transport)))
        self.flow = FlowByTurns(transport, self.turns)
        self._framer = RequestFramer(self._parse, self.limits.request)
        self._timer: Timer | None = None
        self._write_timer: Timer | None = None
        self._lingering = self._discards_all = False
        self._body_began = 0.0
        self._body_bytes = 0
        self.requests = 0
        if self.limiter.add(self, self.client[0] if self.client else ""):
            self._start_timer(self.limits.head_timeout, self._head_overdue)
        else:
            metrics.HTTP_CONNECTIONS_DROPPED.inc()
            self._lingering = True
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._body_bytes += len(data)
        if self._lingering:
            self._discard_more()
            return
        if self._body_bytes > _LARGE_BODY:
            self.flow.end_turn()
        self._advance(partial(self._framer.feed, data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.limiter.remove(self)
        self._stop_timer()
        self.resume_writing()
        self._unset_keepalive_if_required()
        self._lingering = True
        self._framer.discard()
        super().connection_lost(exc)
        self._discard_body()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = timer_wheel(asyncio.get_running_loop()).call_later(self.limits.write_timeout, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # Called by the parser.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._length, self._chunked, self._hosts = 0, False, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        if name in _FRAMING:
            if name == b"host":
                self._hosts += 1
            elif name == b"content-length":
                self._length = int(value)  # digits, by the parser
            elif name == b"transfer-encoding":
                self._chunked = True  # the parser accepts no other coding as the last one
            elif value.lower() == b"100-continue":
                self.expect_100_continue = True
            else:
                raise RefusedRequestError(HTTPStatus.EXPECTATION_FAILED, "the expectation is not supported")

    def on_headers_complete(self) -> None:
        self._check_head()
        self._stop_timer()
        super().on_headers_complete()
        self._framer.body(length=self._length, chunked=self._chunked)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._framer.complete()
        self._body_bytes = 0
        self.requests += 1

    # Called by the application's task.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._discard_body()
        if self.transport.is_closing():
            return
        if self._framer.is_complete:
            self._await_next_request()
        elif self._framer.remaining is None or self._framer.remaining > _MAX_UNREAD:
            self._linger()

    def _discard_body(self) -> None:
        """Forget what the application has not read: the objects of a connection wait for the garbage collector."""
        if self.cycle is not None:
            self.cycle.body = bytearray()

    # Called by the limiter and by timers.

    @property
    def in_hand(self) -> bool:
        """Whether the application has a complete request of this connection."""
        return self._framer.is_complete

    def drop(self) -> None:
        """Close at once."""
        metrics.HTTP_CONNECTIONS_DROPPED.inc()
        self.transport.abort()

    def _advance(self, parse: Any) -> None:
        try:
            parse()
        except RefusedRequestError as error:
            self._refuse(error)
            return
        framer = self._framer
        if framer.is_complete:
            self._stop_timer()
            if self.cycle.response_complete:
                self._await_next_request()
            elif framer.buffered > _MAX_BUFFERED:
                self.flow.pause_reading()
        elif self._timer is None:
            if framer.awaits_head:
                self._start_timer(self.limits.head_timeout, self._head_overdue)
            else:
                self._body_began, self._body_bytes = self.loop.time(), 0
                self._start_timer(self.limits.body_grace, self._check_body_rate)

    def _await_next_request(self) -> None:
        if self._framer.buffered:
            # In a later turn of the loop: the next request of this connection waits behind those of the others.
            self.loop.call_soon(self._next_request)
        else:
            self._framer.next_request()

    def _next_request(self) -> None:
        if not (self._lingering or self.transport.is_closing()):
            self._unset_keepalive_if_required()
            self._advance(self._framer.next_request)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, RefusedRequestError):
                raise error.__context__ from None
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "the request is invalid") from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "the request is not valid HTTP/1.1") from None

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise RefusedRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "the HTTP version is not supported")
            if self._chunked:
                raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no transfer codings")
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "a request must have one Host header")

    def _start_timer(self, seconds: float, callback: Any) -> None:
        self._stop_timer()
        self._timer = timer_wheel(asyncio.get_running_loop()).call_later(seconds, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_overdue(self) -> None:
        self._timer = None
        if self._framer.buffered:
            self._refuse(RefusedRequestError(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time"))
        else:
            self.drop()

    def _check_body_rate(self) -> None:
        elapsed = self.loop.time() - self._body_began
        allowed = self.limits.body_grace + self._body_bytes / self.limits.body_rate
        if self.flow.read_paused or elapsed < allowed:
            if self.flow.read_paused:  # the server is slow, not the client
                self._body_began += self.limits.body_grace
            self._start_timer(self.limits.body_grace, self._check_body_rate)
            return
        self._timer = None
        self._refuse(RefusedRequestError(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time"))

    def _refuse(self, error: RefusedRequestError) -> None:
        """One answer, and the end of the connection; the application sees a client that has disconnected."""
        metrics.series(metrics.HTTP_REQUESTS_REFUSED, str(error.status.value)).inc()
        cycle = self.cycle
        answered = cycle is not None and cycle.response_started and not cycle.response_complete
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if not answered:
            body = f"{error}\n".encode()
            self.transport.write(
                f"HTTP/1.1 {error.status.value} {error.status.phrase}\r\n"
                f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\n"
                "connection: close\r\n\r\n".encode()
                + body
            )
        self._linger()

    def _discard_more(self) -> None:
        """What arrives while the connection is being closed is not parsed."""
        if self._body_bytes > _MAX_UNREAD:
            self._discards_all = self._discards_all or self.limiter.may_discard(self)
            if self._discards_all and self._body_bytes <= _MAX_DISCARDED:
                self.flow.end_turn()
            else:
                self.transport.abort()

    def _linger(self) -> None:
        """Close so that the client can read what was written: a close with unread bytes would reset the connection."""
        self._lingering, self._body_bytes = True, 0
        self._framer.discard()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._start_timer(_LINGER, self.transport.abort)
        else:
            self.transport.close()
