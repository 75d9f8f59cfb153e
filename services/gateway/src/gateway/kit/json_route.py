"""The class of routes with a JSON body: bounded, and read in the same way by every reader."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from gateway.kit.body_cost import check_texts
from gateway.kit.responses import headers_of, read_body
from gateway.kit.strict_json import strict_json

DOCUMENT = "json"  # in the scope of a request: its body


class JsonRoute(APIRoute):
    """Reads at most ``max_body`` bytes, and refuses what readers of JSON understand in different ways.

    The body is read before the caller is known, and decoded on the event loop: the limits keep both cheap. A class with
    a larger ``max_body`` is for routes with long texts; beside them the body has the size of any other.
    """

    max_body = 65_536  # bytes
    max_beside_texts = 65_536  # bytes; of numbers they are decoded in 25 ms

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the framework, behind the check of the body.

        Raises:
            PayloadTooLarge: the body has too many bytes.
            ValidationFailed: the body is compressed, no JSON, or has a key twice.
        """
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            body = await read_body(headers_of(request.scope), request.receive, self.max_body)
            if len(body) > self.max_beside_texts:
                check_texts(body, self.max_beside_texts)
            request.scope[DOCUMENT] = strict_json(body) if body else {}
            return await handle(Request(request.scope, _replay(body, request.receive)))

        return checked


def _replay(body: bytes, receive: Receive) -> Receive:
    """A channel that delivers ``body``, and then what the connection delivers: its end."""
    events: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_event() -> Message:
        return events.pop() if events else await receive()

    return next_event
