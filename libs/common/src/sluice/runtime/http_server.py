"""The HTTP server of every role: uvicorn on a protocol with limits, and the ops endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sluice.runtime import metrics
from sluice.runtime.errors import SluiceError
from sluice.runtime.http_connections import ConnectionLimiter, descriptor_limit
from sluice.runtime.http_protocol import LimitedHttpProtocol
from sluice.runtime.http_turns import Turns
from sluice.runtime.settings import Settings
from sluice.runtime.tasks import supervised

Check = Callable[[], str | None]
"""None while one thing that a role needs is there, otherwise the reason why it is not, as text."""

Readiness = Mapping[str, Check]
"""The checks of a role by name; it is ready while all of them return None."""


def ops_routes(readiness: Readiness) -> list[Route]:
    """``/livez`` (the process responds), ``/readyz`` (it can do its work), ``/metrics``.

    ``/readyz?exclude=kafka`` leaves out a check, for a balancer that should send requests while Kafka is away.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        excluded = request.query_params.getlist("exclude")
        unknown = [name for name in excluded if name not in readiness]
        if unknown:
            reason = f"exclude: there is no check {unknown[0]!r}; there are {', '.join(readiness)}"
            return JSONResponse({"ready": False, "reason": reason}, 400)
        checks = {name: check() for name, check in readiness.items() if name not in excluded}
        reasons = [reason for reason in checks.values() if reason is not None]
        content = {"ready": not reasons, "reason": reasons[0] if reasons else None, "checks": checks}
        return JSONResponse(content, 503 if reasons else 200)

    async def metrics_page(_: Request) -> Response:
        for name, check in readiness.items():
            metrics.READY.labels(name).set(check() is None)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics_page)]


def ops_app(readiness: Readiness) -> Starlette:
    """The ASGI app of the ops routes: all of HTTP for a role that has no API of its own."""
    return pages_app(*ops_routes(readiness))


def pages_app(*pages: Route) -> Starlette:
    """An ASGI app of these routes; a path with a slash at its end is another path."""
    app = Starlette(routes=pages)
    app.router.redirect_slashes = False  # a redirect would be built from the client's Host header
    return app


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the role decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to :func:`sluice.runtime.signals.shutdown_event`."""
        yield


@asynccontextmanager
async def serve_http(
    app: ASGIApp, settings: Settings, *, grace: float = 5.0, ops_port: int | None = None
) -> AsyncIterator[None]:
    """Serve ``app`` on the role's address while the block runs; then finish open requests within ``grace`` seconds.

    ``ops_port``: the port of the ops endpoints, in place of the role's.

    Raises:
        SluiceError: the port is in use.
    """
    port, variable = (settings.port, "SLUICE_PORT") if ops_port is None else (ops_port, "SLUICE_OPS_PORT")
    server = _Server(_server_config(app, settings, port, grace))
    try:
        listener = server.config.bind_socket()
    except SystemExit:
        raise SluiceError(f"port {port} on {settings.host} is in use: set {variable} to a free one") from None
    task = supervised(server.serve(sockets=[listener]), name="http")
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
        listener.close()


def _protocol(settings: Settings) -> type[LimitedHttpProtocol]:
    limits = settings.connection_limits()
    total = min(limits.connections, descriptor_limit())

    class Protocol(LimitedHttpProtocol):
        limiter = ConnectionLimiter(total, min(limits.connections_per_address, total))
        turns = Turns()

    Protocol.limits = limits
    return Protocol


def _server_config(app: ASGIApp, settings: Settings, port: int, grace: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        loop="none",
        http=_protocol(settings),
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
