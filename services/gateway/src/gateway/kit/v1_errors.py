"""The errors that routes of ``/v1`` declare."""

from __future__ import annotations

from typing import Any

from gateway.apis.rendering import V1Error, declare
from gateway.errors import (
    ApiError,
    Forbidden,
    InternalError,
    NotFound,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)


def errors_of(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """``errors``, and those that every route with a principal may raise."""
    return declare(V1Error, Unauthorized, Forbidden, ValidationFailed, NotFound, InternalError, Unavailable, *errors)
