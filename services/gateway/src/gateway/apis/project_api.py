"""The project API: paths at the root, MessagePipe's field names and error envelope."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI

from gateway.accounts import project_api as accounts
from gateway.analytics import project_api as analytics
from gateway.apis.rate_limit_headers import add_rate_limits
from gateway.apis.rendering import ProjectApiError, add_error_handlers, declare, operation_id, render_project_api
from gateway.channel_configs import project_api as channel_configs
from gateway.delivery_log import project_api as delivery_log
from gateway.devices import project_api as devices
from gateway.keys import project_api as keys
from gateway.members import project_api as members
from gateway.messages import project_api as messages
from gateway.projects import project_api as projects
from gateway.providers import project_api as providers
from gateway.templates import project_api as templates

_ROUTERS: tuple[APIRouter, ...] = (
    *(accounts.router, projects.router, members.router, keys.router),
    *(channel_configs.router, providers.router),
    *templates.routers,
    *(messages.router, devices.router, delivery_log.router, analytics.router),
)

_DESCRIPTION = (
    "Paths at the root, for clients written against MessagePipe. The same projects, people, providers, templates and "
    "messages are reached through `/v1`: `/openapi.json`. Ids are plain UUIDs here; there they are the same ids with a "
    "prefix. An id with its prefix is accepted here too."
)


class _ProjectApi(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The document of the API."""
        if self.openapi_schema is None:
            add_rate_limits(super().openapi())
        assert self.openapi_schema is not None
        return self.openapi_schema


def create_project_api() -> FastAPI:
    """The application; ``state.services`` is set before its first request."""
    app = _ProjectApi(
        title="Sluice project API",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url=None,  # a page of its own
        responses=declare(ProjectApiError),
        generate_unique_id_function=operation_id,
    )
    for router in _ROUTERS:
        app.include_router(router)
    add_error_handlers(app, render_project_api)
    return app
