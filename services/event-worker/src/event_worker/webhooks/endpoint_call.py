"""One request to a webhook endpoint, and what its response means."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import httpx

from sluice.model.characters import as_storable
from sluice.providers.kit.responses import retry_after
from sluice.transports.provider_call import NoAnswerError, NotSentError

_MAX_ANSWER = 4096  # bytes that are kept of a response's body
_HEADERS = {"content-type": "application/json", "user-agent": "Sluice-Webhooks/1", "accept": "*/*"}
_GONE = 410
_RETRY_AFTER_STATUSES = (429, 503)


class Exchange(Protocol):
    """The part of :class:`sluice.transports.http.HttpTransport` that is used: no redirects, a bounded response."""

    async def exchange(self, request: httpx.Request, *, deadline: float) -> httpx.Response: ...


class CallResult(NamedTuple):
    """What an endpoint answered. ``error``: None for a success; ``retry_after``: the pause that it asked for."""

    started_at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    answer: str = ""
    retry_after: timedelta | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the endpoint asks for no more events."""
        return self.status == _GONE


async def call_endpoint(
    transport: Exchange, url: str, body: bytes, headers: dict[str, str], *, timeout: float, now: datetime
) -> CallResult:
    """Send ``body`` once; success is a response with 2xx that ends within ``timeout`` seconds."""
    begun = time.monotonic()

    def elapsed() -> int:
        return int((time.monotonic() - begun) * 1000)

    request = httpx.Request("POST", url, content=body, headers={**_HEADERS, **headers})
    try:
        response = await transport.exchange(request, deadline=timeout)
    except (NotSentError, NoAnswerError) as error:
        return CallResult(now, elapsed(), None, str(error) or type(error).__name__)
    return CallResult(
        started_at=now,
        duration_ms=elapsed(),
        status=response.status_code,
        error=None if response.is_success else _describe(response),
        answer=as_storable(response.content[:_MAX_ANSWER].decode("utf-8", "replace"), _MAX_ANSWER),
        retry_after=retry_after(response) if response.status_code in _RETRY_AFTER_STATUSES else None,
    )


def _describe(response: httpx.Response) -> str:
    if response.is_redirect:
        return f"the endpoint answered {response.status_code}; redirects are not followed"
    return f"the endpoint answered {response.status_code}"
