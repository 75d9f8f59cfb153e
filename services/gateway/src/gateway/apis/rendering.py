"""How each API shows an error: the envelope of ``/v1`` and that of the project API."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from gateway.apis import error_page
from gateway.errors import ApiError, InternalError, MethodNotAllowed, NotFound, ValidationFailed, from_faults
from sluice.runtime import metrics

RETRYABLE = (429, 503)
_REQUEST_PARTS = frozenset({"body", "query", "path", "header", "cookie"})

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

Renderer = Callable[[ApiError], dict[str, Any]]
"""The JSON document of an error."""


class V1ErrorDetail(BaseModel):
    """What is wrong: ``field`` is the dotted path of the field at fault, where it is one field's.

    ``line`` and ``column``: the place in a template, from 1.
    """

    code: str
    message: str
    docs: str
    field: str | None = None
    line: int | None = None
    column: int | None = None


class V1Error(BaseModel):
    """The envelope of every error of ``/v1``."""

    error: V1ErrorDetail


class ProjectApiError(BaseModel):
    """The envelope of every error of the project API. ``error``: the phrase of the status; ``message`` names the field
    at fault.
    """

    message: str
    error: str
    statusCode: int


def render_v1(error: ApiError) -> dict[str, Any]:
    """See :class:`V1Error`."""
    detail: dict[str, Any] = {
        "code": error.code,
        "message": str(error),
        "docs": f"{error_page.PATH}#{error.code.lower()}",
    }
    if error.field is not None:
        detail["field"] = error.field
    if error.position is not None:
        detail["line"], detail["column"] = error.position
    return {"error": detail}


def render_project_api(error: ApiError) -> dict[str, Any]:
    """See :class:`ProjectApiError`."""
    return {
        "message": str(error) if error.position is None else "{} (line {}, column {})".format(error, *error.position),
        "error": error.title or HTTPStatus(error.status).phrase,
        "statusCode": error.status,
    }


def renderer_of(path: str) -> Renderer:
    """How the API at ``path`` shows errors."""
    return render_v1 if is_v1(path) else render_project_api


def is_v1(path: str) -> bool:
    """Whether a path belongs to ``/v1``: those of the project API are at the root."""
    return path == "/v1" or path.startswith("/v1/")


def error_headers(error: ApiError) -> dict[str, str]:
    """The headers of the response to a rejected request, beside those of its body."""
    if isinstance(error, MethodNotAllowed):
        return {"allow": error.allow}
    return {"retry-after": str(error.retry_after)} if error.status in RETRYABLE else {}


def error_response(error: ApiError, source: str = "http", render: Renderer = render_v1) -> Response:
    """The response to a rejected request, which is counted by ``source``."""
    metrics.series(metrics.REQUESTS_REJECTED, error.code, source).inc()
    return Response(orjson.dumps(render(error)), error.status, error_headers(error), "application/json")


def add_error_handlers(app: FastAPI, render: Renderer) -> None:
    """Make ``app`` answer every error in the envelope of its API."""

    async def api_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error_response(error, render=render)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(from_faults(error.errors(), without=_REQUEST_PARTS), render=render)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _http_error(request, error, render)

    async def unexpected(_: Request, error: Exception) -> Response:
        return error_response(InternalError("Internal server error"), render=render)  # the server logs it

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected)


def _http_error(request: Request, error: HTTPException, render: Renderer) -> Response:
    match error.status_code:
        case 404:
            return error_response(NotFound("Not found"), render=render)
        case 405:
            return error_response(MethodNotAllowed(_methods(request)), render=render)
        case status:
            refused = ValidationFailed(str(error.detail))
            refused.status = status  # type: ignore[misc]  # of this one error
            return error_response(refused, render=render)


def _methods(request: Request) -> set[str]:
    """The methods of the path; the framework's own header names those of one route only."""
    found = {
        method
        for method in _METHODS
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return found | {"HEAD"} if "GET" in found else found


def operation_id(route: APIRoute) -> str:
    """The name of a route in the OpenAPI document, and of its function in generated clients."""
    return route.name


def declare(model: type[BaseModel], *errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may raise ``errors``, and any other error in the same envelope."""
    declared: dict[int | str, dict[str, Any]] = {"default": {"model": model, "description": "Any other error."}}
    for error in errors:
        text = f"`{error.code}`: {inspect.getdoc(error)}"
        earlier = declared.get(error.status)
        declared[error.status] = {
            "model": model,
            "description": text if earlier is None else f"{earlier['description']}\n\n{text}",
        }
        if error.status in RETRYABLE:
            declared[error.status]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}
            }
    return declared
