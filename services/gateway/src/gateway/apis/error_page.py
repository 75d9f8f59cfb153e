"""The page that ``docs`` in an error points to: every code, explained by the docstring of its class."""

from __future__ import annotations

import inspect
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from gateway.errors import ApiError

PATH = "/errors"


async def _show(_: Request) -> HTMLResponse:
    return HTMLResponse(_PAGE)


def _row(error: type[ApiError]) -> str:
    text = escape(inspect.getdoc(error) or "")
    return (
        f'<tr id="{error.code.lower()}"><td>{error.status}</td><td><code>{error.code}</code></td><td>{text}</td></tr>'
    )


_PAGE = (
    "<!doctype html><meta charset=utf-8><title>Sluice: errors</title><h1>Errors</h1>"
    "<table><tr><th>status</th><th>code</th><th>meaning</th></tr>"
    + "".join(_row(error) for error in sorted(ApiError.__subclasses__(), key=lambda error: (error.status, error.code)))
    + "</table>"
)

error_page = Route(PATH, _show)
"""``/errors``; it needs no key, so that a link in a log opens."""
