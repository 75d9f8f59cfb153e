"""When a request is sent again."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import httpx
from sluice.client.calls import Call
from sluice.client.errors import ConnectionFailedError, error_of, retry_after_of

_NOT_STORED = (429, 503)  # the gateway says that it stored nothing
_UNCERTAIN = (500, 502, 504)  # an error on the way; the gateway may have the request
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and for how long a request is repeated.

    ``attempts``: requests in all. ``within``: seconds from the first request after which none is begun. ``first_pause``
    and ``longest_pause``: seconds; the pause doubles, and a random part of it is waited, unless the gateway names one.
    """

    attempts: int = 4
    within: float = 60.0
    first_pause: float = 0.5
    longest_pause: float = 8.0


def broken(error: httpx.TransportError) -> ConnectionFailedError:
    """The error of an answer that has begun and does not end."""
    return ConnectionFailedError(f"the answer broke off: {str(error) or type(error).__name__}", sent=True)


class Attempts:
    """The requests of one call. After each that failed: the pause before the next one in seconds, or the error."""

    def __init__(self, call: Call, retries: Retries) -> None:
        self._repeatable = call.repeatable
        self._retries = retries
        self._made = 0
        self._ends_at = time.monotonic() + retries.within

    def after_error(self, error: httpx.TransportError) -> float:
        """Raises ConnectionFailedError when the request is not to be repeated."""
        sent = not isinstance(error, _NOT_SENT)
        pause = self._pause() if self._repeatable or not sent else None
        if pause is None:
            text = str(error) or type(error).__name__
            raise ConnectionFailedError(f"no answer from the gateway: {text}", sent=sent) from error
        return pause

    def after_response(self, response: httpx.Response) -> float:
        """Raises ApiError when the request failed and is not to be repeated."""
        status = response.status_code
        again = status in _NOT_STORED or (self._repeatable and status in _UNCERTAIN)
        pause = self._pause(retry_after_of(response)) if again else None
        if pause is None:
            raise error_of(response)
        return pause

    def _pause(self, stated: float | None = None) -> float | None:
        self._made += 1
        longest = min(self._retries.longest_pause, self._retries.first_pause * 2 ** (self._made - 1))
        pause = random.uniform(0, longest) if stated is None else stated  # noqa: S311
        over = self._made >= self._retries.attempts or time.monotonic() + pause > self._ends_at
        return None if over else pause
