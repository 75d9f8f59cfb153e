"""The errors that routes of the project API declare."""

from __future__ import annotations

from typing import Any

from gateway.apis.rendering import ProjectApiError, declare
from gateway.errors import ApiError
from gateway.kit.v1_errors import EVERYWHERE


def errors_of(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """``errors``, and those that every route with a principal may raise."""
    return declare(ProjectApiError, *EVERYWHERE, *(error for error in errors if error not in EVERYWHERE))
