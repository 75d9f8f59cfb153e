"""The HTTP server of every role: uvicorn with fewer system calls and timers, and the ops endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import Settings
from sluice.runtime.tasks import supervised
from sluice.runtime.timers import timer_wheel

Readiness = Callable[[], str | None]
"""None when the role is ready, otherwise the reason why it is not, as text."""

_MAX_BUFFERED = 65_536  # bytes of a response that are held back to be written together


def ops_routes(readiness: Readiness) -> list[Route]:
    """``/healthz`` (the process responds), ``/readyz`` (it can do its work), ``/metrics``."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        reason = readiness()
        return JSONResponse({"ready": reason is None, "reason": reason}, 200 if reason is None else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def ops_app(readiness: Readiness, *pages: Route) -> Starlette:
    """The ASGI app of the ops routes and of ``pages``: all of HTTP for a role that has no API of its own."""
    return Starlette(routes=[*ops_routes(readiness), *pages])


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the role decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to :func:`sluice.runtime.signals.shutdown_event`."""
        yield


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


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol on a :class:`_CoalescingTransport` and a :class:`_TimerLoop`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.loop = cast(asyncio.AbstractEventLoop, _TimerLoop(self.loop))
        super().connection_made(cast(asyncio.Transport, _CoalescingTransport(transport)))


@asynccontextmanager
async def serve_http(app: ASGIApp, settings: Settings, *, grace: float = 5.0) -> AsyncIterator[None]:
    """Serve ``app`` on the role's address while the block runs; then finish open requests within ``grace`` seconds.

    Raises:
        SluiceError: the port is in use.
    """
    server = _Server(_server_config(app, settings, grace))
    try:
        listener = server.config.bind_socket()
    except SystemExit:
        raise SluiceError(f"port {settings.port} on {settings.host} is in use: set SLUICE_PORT to a free one") from None
    task = supervised(server.serve(sockets=[listener]), name="http")
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
        listener.close()


def _server_config(app: ASGIApp, settings: Settings, grace: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="none",
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(grace) or 1,
    )
