"""The ``/v1`` API."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.accounts import v1 as accounts
from gateway.apis.rendering import add_error_handlers, operation_id, render_v1
from gateway.audit import v1 as audit
from gateway.keys import v1 as keys
from gateway.members import v1 as members
from gateway.messages import v1 as messages
from gateway.projects import v1 as projects
from gateway.routing import v1 as routing

_ROUTERS = (
    messages.router,
    routing.router,
    accounts.router,
    projects.router,
    members.router,
    keys.router,
    audit.router,
)


class _V1Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The document of the API, with the routes that the fast path answers."""
        if self.openapi_schema is None:
            self.openapi_schema = get_openapi(
                title=self.title,
                version=self.version,
                routes=[*messages.documented.routes, *self.routes],
            )
        return self.openapi_schema


def create_v1_api() -> FastAPI:
    """The application; ``state.services`` is set before its first request."""
    app = _V1Api(
        title="Sluice",
        version="1",
        openapi_url=None,  # a page of its own
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect is built from the client's Host header, and may lose TLS
        generate_unique_id_function=operation_id,
    )
    for router in _ROUTERS:
        app.include_router(router)
    add_error_handlers(app, render_v1)
    return app
