"""The errors that routes of ``/v1`` declare."""

from __future__ import annotations

from typing import Any

from gateway.apis.rendering import V1Error, declare
from gateway.errors import (
    ApiError,
    Forbidden,
    InternalError,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)

EVERYWHERE = (
    Unauthorized,
    Forbidden,
    ValidationFailed,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    InternalError,
    Unavailable,
)
"""What every route with a principal may raise, in both APIs."""


def errors_of(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """``errors``, and those that every route with a principal may raise."""
    return declare(V1Error, *EVERYWHERE, *(error for error in errors if error not in EVERYWHERE))
