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


def errors_of(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """``errors``, and those that every route with a principal may raise."""
    everywhere = (
        Unauthorized,
        Forbidden,
        ValidationFailed,
        NotFound,
        PayloadTooLarge,
        TooManyRequests,
        InternalError,
        Unavailable,
    )
    return declare(V1Error, *everywhere, *(error for error in errors if error not in everywhere))
