"""The project API: paths at the root, MessagePipe's field names and error envelope."""

from __future__ import annotations

from fastapi import FastAPI

from gateway.apis.rendering import ProjectApiError, add_error_handlers, declare, operation_id, render_project_api


def create_project_api() -> FastAPI:
    """The application; ``state.services`` is set before its first request."""
    app = FastAPI(
        title="Sluice project API",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url=None,  # a page of its own
        responses=declare(ProjectApiError),
        generate_unique_id_function=operation_id,
    )
    add_error_handlers(app, render_project_api)
    return app
