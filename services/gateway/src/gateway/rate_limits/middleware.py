"""The ASGI side of the limits: counts requests per client address, and writes the headers of every response."""

from __future__ import annotations

import math
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.apis.rendering import error_response, renderer_of
from gateway.auth.access import Access
from gateway.errors import TooManyRequests
from gateway.rate_limits.buckets import Budget
from gateway.rate_limits.limits import RateLimits, Spent, current

LOGIN_PATHS = ("/v1/auth/", "/auth/")
_EXEMPT = "/v1/receipts/"  # a provider sends the webhooks of many messages from few addresses

HEADERS = {
    "X-RateLimit-Limit": "Requests per minute, where the installation limits them.",
    "X-RateLimit-Remaining": "Requests that are left.",
    "X-RateLimit-Reset": "When all are available again, Unix time.",
}
"""The headers of a limited response, with their descriptions."""


class RateLimitMiddleware:
    """In front of every API. Without limits only attempts to log in have headers."""

    def __init__(self, app: ASGIApp, limits: RateLimits, access: Access) -> None:
        self._app = app
        self._limits = limits
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not (self._limits.is_on or scope["path"].startswith(LOGIN_PATHS)):
            await self._app(scope, receive, send)
            return
        spent = Spent()
        token = current.set(spent)
        try:
            await self._answer(scope, receive, _with_headers(send, spent))
        finally:
            current.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if not scope["path"].startswith(_EXEMPT):
                await self._limits.spend_address(self._access.client_address(Request(scope)))
        except TooManyRequests as error:
            await error_response(error, render=renderer_of(scope["path"]))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _with_headers(send: Send, spent: Spent) -> Send:
    async def send_limited(event: Message) -> None:
        if event["type"] == "http.response.start" and spent.budget is not None:
            event = {**event, "headers": [*event["headers"], *_headers(spent.budget)]}
        await send(event)

    return send_limited


def _headers(budget: Budget) -> list[tuple[bytes, bytes]]:
    values = (budget.limit, budget.remaining, math.ceil(time.time() + budget.full_in))
    return [(name.lower().encode(), b"%d" % value) for name, value in zip(HEADERS, values, strict=True)]
