"""The page that ``docs`` in an error points to: every code there is, in the words of its class."""

from __future__ import annotations

import inspect
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from gateway.errors import DOCS, ApiError


def create_error_page() -> Route:
    """``/errors``; it needs no key, so that a link in a log opens."""

    async def errors(_: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE)

    return Route(DOCS, errors)


def _row(error: type[ApiError]) -> str:
    words = escape(inspect.getdoc(error) or "")
    return (
        f'<tr id="{error.code.lower()}"><td>{error.status}</td><td><code>{error.code}</code></td><td>{words}</td></tr>'
    )


_PAGE = (
    "<!doctype html><meta charset=utf-8><title>Sluice: errors</title><h1>Errors</h1>"
    "<table><tr><th>status</th><th>code</th><th>meaning</th></tr>"
    + "".join(_row(error) for error in sorted(ApiError.__subclasses__(), key=lambda error: (error.status, error.code)))
    + "</table>"
)
