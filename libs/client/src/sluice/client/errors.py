"""The errors of the client.

SluiceClientError
├── ConnectionFailedError   no answer; ``sent``: whether the gateway may have the request
└── ApiError                the gateway's error: status, code, message, field
    ├── InvalidRequestError     400, 405, 422
    ├── AuthenticationError     401
    ├── PermissionDeniedError   403
    ├── NotFoundError           404
    ├── ConflictError           409
    ├── PayloadTooLargeError    413
    ├── RateLimitedError        429
    └── UnavailableError        503: nothing was stored
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx


class SluiceClientError(Exception):
    """Any error of the client."""


class ConnectionFailedError(SluiceClientError):
    """No answer came. ``sent``: False when no connection was made, so the gateway does not have the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class ApiError(SluiceClientError):
    """The gateway's answer to a request that it did not carry out.

    ``code`` is the word of the API, such as ``VALIDATION_ERROR``; ``field`` the dotted path of the field at fault, if
    one is; ``retry_after`` the pause in seconds that the gateway asks for.
    """

    def __init__(
        self, message: str, *, status: int, code: str, field: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.message = message
        self.status = status
        self.code = code
        self.field = field
        self.retry_after = retry_after


class InvalidRequestError(ApiError):
    """The request does not follow the API."""


class AuthenticationError(ApiError):
    """The key or session is not valid."""


class PermissionDeniedError(ApiError):
    """The key or the role does not allow this."""


class NotFoundError(ApiError):
    """The project has no such thing."""


class ConflictError(ApiError):
    """The state does not allow this, or the idempotency key belongs to another request."""


class PayloadTooLargeError(ApiError):
    """The request is too large."""


class RateLimitedError(ApiError):
    """Too many requests; nothing was stored."""


class UnavailableError(ApiError):
    """The gateway cannot store requests now; nothing was stored."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: InvalidRequestError,
    409: ConflictError,
    413: PayloadTooLargeError,
    422: InvalidRequestError,
    429: RateLimitedError,
    503: UnavailableError,
}


def error_of(response: httpx.Response) -> ApiError:
    """The error of an answer that is none of success; what a proxy answers has the code ``UNKNOWN``."""
    try:
        envelope: Any = response.json()["error"]
        code, message, field = str(envelope["code"]), str(envelope["message"]), envelope.get("field")
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message, field = "UNKNOWN", f"HTTP {response.status_code}: {response.text[:200]}", None
    kind = _BY_STATUS.get(response.status_code, ApiError)
    return kind(message, status=response.status_code, code=code, field=field, retry_after=retry_after_of(response))


def retry_after_of(response: httpx.Response) -> float | None:
    """The ``Retry-After`` of an answer in seconds; None without one or with a date."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
