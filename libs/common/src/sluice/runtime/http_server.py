"""How every role runs: settings errors in one sentence, uvloop, logs, signals, and a small HTTP side."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import structlog
import uvicorn
import uvloop
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import Settings
from sluice.runtime.tasks import SUPERVISED, supervised
from sluice.runtime.timers import timer_wheel

log = structlog.get_logger()

Readiness = Callable[[], str | None]
"""None when ready, otherwise what is missing, in words."""

_LONG = 65_536  # bytes of an answer that wait to be written with what follows them


def run_role(main: Callable[[], Awaitable[None]]) -> None:
    """Run a role's ``main`` until it returns; an expected fault is one line on stderr and exit code 1."""
    try:
        uvloop.run(_tune_gc_and_run(main))
    except SluiceError as error:
        print(f"sluice: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


async def _tune_gc_and_run(main: Callable[[], Awaitable[None]]) -> None:
    # What is loaded now stays for good; the rest is mostly short-lived and free of cycles. With the defaults the
    # collector took a tenth of a worker's time under load.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    await main()


def configure_logging(level: str, role: str) -> None:
    """One JSON object a line on stdout: event name and fields."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise SluiceError(f"SLUICE_LOG_LEVEL: {level!r} is none of debug, info, warning, error")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    logging.basicConfig(level=max(number, logging.WARNING), format="%(levelname)s %(name)s %(message)s")
    # During an outage aiokafka repeats each connection error several times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def shutdown_event(timeout: float) -> asyncio.Event:
    """Set by SIGTERM and SIGINT, and when a task that should last (:func:`sluice.runtime.tasks.lasting`) has died.

    In the last case the process ends ``grace`` seconds later at the latest: what is under way may wait for the dead
    one, and everything here survives being killed.
    """
    stopped = asyncio.Event()

    def on_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if SUPERVISED not in context:
            loop.default_exception_handler(context)
            return
        log.critical("supervised_task_died", task=context[SUPERVISED], exc_info=context["exception"])
        stopped.set()
        loop.call_later(timeout, os._exit, 1)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_fault)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def ops_routes(readiness: Readiness) -> list[Route]:
    """``/healthz`` (the process answers), ``/readyz`` (it can do its work), ``/metrics``."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        missing = readiness()
        return JSONResponse({"ready": missing is None, "reason": missing}, 200 if missing is None else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def ops_app(readiness: Readiness, *routes: Route) -> Starlette:
    """The HTTP side of a role that has no API of its own."""
    return Starlette(routes=[*ops_routes(readiness), *routes])


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the role decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: see :func:`stop_event`."""
        yield


class _CoalescingTransport:
    """A connection from which leaves at once what is written in one turn of the event loop.

    uvicorn writes an answer's head and body apart, and each write is a system call: two were a sixth of the
    gateway's CPU time.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write it before the loop waits again; a long answer at once, so that it feels the other side's pace."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _LONG:
            self._flush()

    def close(self) -> None:
        """Close once all is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts, self._size = [], 0
            if not self._transport.is_closing():
                self._transport.write(data)


class _TimerLoop:
    """The event loop as a connection needs it: with cheap timers, for it takes one after each answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.create_task = loop.create_task
        self.call_later = timer_wheel(loop).call_later


class _Protocol(HttpToolsProtocol):
    """uvicorn's, on a connection that joins its writes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.loop = cast(asyncio.AbstractEventLoop, _TimerLoop(self.loop))
        super().connection_made(cast(asyncio.Transport, _CoalescingTransport(transport)))


@asynccontextmanager
async def serve_http(app: ASGIApp, settings: Settings, *, grace: float = 5.0) -> AsyncIterator[None]:
    """Serve ``app`` on the role's address while the block runs; then finish open requests, ``grace`` seconds at most.

    Raises:
        SluiceError: the port is taken.
    """
    config = uvicorn.Config(
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
    server = _Server(config)
    try:
        listener = config.bind_socket()
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
