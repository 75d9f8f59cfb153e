"""The HTTP side of the gateway: the hot path, then one application per API, chosen by the path."""

from __future__ import annotations

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.apis.error_page import error_page
from gateway.apis.openapi_page import OpenApiPage
from gateway.apis.project_api import create_project_api
from gateway.apis.rendering import is_v1
from gateway.apis.v1 import create_v1_api
from gateway.dashboard.files import Dashboard
from gateway.ingest.fast_path import SendFastPath
from gateway.rate_limits.middleware import RateLimitMiddleware
from gateway.services import Services
from gateway.unsubscribe.endpoint import UnsubscribeEndpoint
from gateway.unsubscribe.links import PATH as UNSUBSCRIBE_PATH
from sluice.runtime import tracing
from sluice.runtime.http_server import pages_app


class Apis:
    """``/v1``, the links to unsubscribe, the dashboard, the pages of no API, and the project API elsewhere."""

    def __init__(self, services: Services) -> None:
        self.v1 = create_v1_api()
        self.v1.router.routes.append(services.receipts.route())
        self.v1.router.routes.append(UnsubscribeEndpoint(services.pool, services.unsubscribe_links).route())
        self.project_api = create_project_api()
        for app in (self.v1, self.project_api):
            app.state.services = services
        documents = {"/openapi.json": self.v1, "/project.openapi.json": self.project_api}
        self.pages = pages_app(error_page, *(OpenApiPage(path, app).route for path, app in documents.items()))
        self._dashboard = Dashboard()
        self._paths = {route.path for route in self.pages.routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; every path with GET has HEAD (RFC 9110 9.3.2)."""
        app = self._choose(scope["path"])
        if scope["method"] == "HEAD":
            await app({**scope, "method": "GET"}, receive, _without_content(send))
        else:
            await app(scope, receive, send)

    async def prepare(self) -> None:
        """Ask each API for something: at its first request the framework builds its routes, for 0.3 s in one piece."""
        for app in (self.v1, self.project_api):
            await app(dict(_FIRST_REQUEST), _receive_nothing, _send_nowhere)

    def _choose(self, path: str) -> ASGIApp:
        if is_v1(path) or path.startswith(f"{UNSUBSCRIBE_PATH}/"):
            return self.v1
        if self._dashboard.serves(path):
            return self._dashboard
        return self.pages if path in self._paths else self.project_api


_FIRST_REQUEST: Scope = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/-",
    "query_string": b"",
    "headers": [],
}


async def _receive_nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send_nowhere(event: Message) -> None:
    """Discard a response."""


def _without_content(send: Send) -> Send:
    async def send_head(event: Message) -> None:
        await send({**event, "body": b""} if event["type"] == "http.response.body" else event)

    return send_head


def create_asgi(services: Services, apis: Apis, *, max_request_bytes: int) -> ASGIApp:
    """The HTTP side that callers reach; the ops endpoints have a port of their own."""
    access = services.accounts.access
    fast_path = SendFastPath(
        services.authenticator,
        access,
        services.ingest,
        services.rate_limits,
        max_body=max_request_bytes,
        next_app=apis,
    )
    app = RateLimitMiddleware(fast_path, services.rate_limits, access)
    return _CallerContext(app) if tracing.active() else app


class _CallerContext:
    """Passes the ``traceparent`` header of a request to the first span of its message."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracing.caller.set(tracing.parent_in([(name.decode("latin-1"), value) for name, value in scope["headers"]]))
        await self._app(scope, receive, send)
