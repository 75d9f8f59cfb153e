"""The ``/v1`` API."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.accounts import v1 as accounts
from gateway.analytics import v1 as analytics
from gateway.apis.rate_limit_headers import add_rate_limits
from gateway.apis.rendering import add_error_handlers, operation_id, render_v1
from gateway.audit import v1 as audit
from gateway.bulk import v1 as bulk
from gateway.dead_letters import v1 as dead_letters
from gateway.domains import v1 as domains
from gateway.events import v1 as events
from gateway.incidents import v1 as incidents
from gateway.keys import v1 as keys
from gateway.members import v1 as members
from gateway.messages import v1 as messages
from gateway.outbox import v1 as outbox
from gateway.packages import v1 as packages
from gateway.projects import v1 as projects
from gateway.providers import v1 as providers
from gateway.routing import v1 as routing
from gateway.status import v1 as status
from gateway.suppressions import v1 as suppressions
from gateway.templates import v1 as templates
from gateway.webhooks import v1 as webhooks

_ROUTERS = (
    # Before the messages: `bulk` is no id of one.
    *(bulk.router, messages.router, events.router, dead_letters.router, routing.router),
    *(analytics.router, templates.router, suppressions.router, webhooks.router),
    *(accounts.router, projects.router, members.router, keys.router, audit.router),
    *(providers.router, packages.router, domains.router, incidents.router, outbox.router, status.router),
)

_DESCRIPTION = (
    "Paths under `/v1`. The same projects, people, providers, templates and messages are reached through the project "
    "API at the root, for clients written against MessagePipe: `/project.openapi.json`. Ids have a prefix here; there "
    "they are the same ids as plain UUIDs."
)


class _V1Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The document of the API, with the routes that the fast path answers."""
        if self.openapi_schema is None:
            self.openapi_schema = get_openapi(
                title=self.title,
                version=self.version,
                description=self.description,
                routes=[*messages.documented.routes, *self.routes],
            )
            add_rate_limits(self.openapi_schema)
        return self.openapi_schema


def create_v1_api() -> FastAPI:
    """The application; ``state.services`` is set before its first request."""
    app = _V1Api(
        title="Sluice",
        version="1",
        description=_DESCRIPTION,
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
