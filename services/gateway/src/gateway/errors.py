"""What a caller may be told, and the one envelope it is told in.

ApiError
├── Invalid                 400  a field is wrong; it is named
├── Unauthorized            401
├── NotFound                404  also for another project's things
├── NotAllowed              405
├── IdempotencyConflict     409
├── NotCancellable          409
├── TooLarge                413
├── TooMany                 429  nothing was recorded
└── Unavailable             503  nothing was recorded
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ValidationError

DOCS = "/errors"  # on this gateway, see gateway.error_page


class ApiError(Exception):
    """An answer to the caller; its text is shown."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    def envelope(self) -> dict[str, Any]:
        """The body of the answer."""
        error = {"code": self.code, "message": str(self), "docs": f"{DOCS}#{self.code.lower()}"}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}


class ValidationFailed(ApiError):
    """The request does not follow the contract."""

    status, code = 400, "VALIDATION_ERROR"


class Unauthorized(ApiError):
    """No key, or one that is not valid."""

    status, code = 401, "UNAUTHORIZED"


class NotFound(ApiError):
    """There is no such thing in this project."""

    status, code = 404, "NOT_FOUND"


class MethodNotAllowed(ApiError):
    """The path knows other methods only."""

    status, code = 405, "METHOD_NOT_ALLOWED"


class IdempotencyConflict(ApiError):
    """The key was used for another body."""

    status, code = 409, "IDEMPOTENCY_CONFLICT"


class NotCancellable(ApiError):
    """Too late to take it back."""

    status, code = 409, "MESSAGE_NOT_CANCELLABLE"


class PayloadTooLarge(ApiError):
    """The body is larger than this installation takes."""

    status, code = 413, "PAYLOAD_TOO_LARGE"


class TooManyRequests(ApiError):
    """More requests are open than can be answered in time, and this project has more than its share of them."""

    status, code = 429, "RATE_LIMIT_EXCEEDED"


class Unavailable(ApiError):
    """The request could not be made durable; nothing was accepted."""

    status, code = 503, "UNAVAILABLE"


_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this channel",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "json_invalid": "the body is not valid JSON",
}


def from_validation_error(error: ValidationError) -> ValidationFailed:
    """The first fault of a request, with the dotted path of its field."""
    fault = error.errors(include_url=False, include_input=False)[0]
    path = [str(part)[:100] for part in fault["loc"]]
    if path and path[0] in _CHANNEL_TAGS:
        del path[0]  # which member of the union it was, no field
    field = ".".join(path) or None
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return ValidationFailed("channel must be one of email, sms, whatsapp, telegram, signal, push", field="channel")
    words = _MESSAGES.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
    return ValidationFailed(words if field is None else f"{field}: {words}", field=field)


_CHANNEL_TAGS = {"email", "sms", "whatsapp", "telegram", "signal", "push"}
