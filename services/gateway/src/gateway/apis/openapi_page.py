"""The OpenAPI document of an application as a page, serialized once: it has 200 KB, and needs no key."""

from __future__ import annotations

import asyncio

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class OpenApiPage:
    """Builds the document for its first reader, off the event loop: it takes half a second."""

    def __init__(self, path: str, app: FastAPI) -> None:
        self.route = Route(path, self._show)
        self._app = app
        self._content = b""
        self._building = asyncio.Lock()

    async def _show(self, _: Request) -> Response:
        async with self._building:
            if not self._content:
                self._content = await asyncio.to_thread(lambda: orjson.dumps(self._app.openapi()))
        return Response(self._content, media_type="application/json")
