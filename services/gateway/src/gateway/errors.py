"""The errors of the HTTP APIs, without a shape: each API renders them (:mod:`gateway.apis.rendering`).

ApiError
├── ValidationFailed     400  a field is wrong; it is named
├── Unauthorized         401
├── Forbidden            403
├── NotFound             404  also for what belongs to another project
├── MethodNotAllowed     405
├── IdempotencyConflict  409
├── NotCancellable       409
├── SlugTaken            409
├── AlreadyMember        409
├── AccountExists        409
├── LastOwner            409
├── VersionConflict      409
├── DomainExists         409
├── DomainInUse          409
├── TemplateChanged      409
├── SendCancelled        409
├── NotRetryable         409
├── WebhookDisabled      409
├── ChannelDisabled      409  nothing was stored
├── ChannelConfigExists  409
├── PayloadTooLarge      413
├── TooManyRequests      429  nothing was stored
├── QuotaExceeded        429  nothing was stored
├── InternalError        500
├── SendFailed           500  the message is stored, and no provider has taken it
└── Unavailable          503  nothing was stored
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar


class ApiError(Exception):
    """An error that is shown to the caller: status, code, text, and the dotted path of the field at fault.

    ``title``: ``error`` in the envelope of the project API, where it is not the phrase of the status.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        retry_after: int = 1,
        position: tuple[int, int] | None = None,
    ) -> None:
        """``retry_after``: seconds; shown where the status is 429 or 503. ``position``: line and column, from 1."""
        super().__init__(message)
        self.field = field
        self.position = position
        self.retry_after = retry_after


class ValidationFailed(ApiError):
    """The request does not follow the contract."""

    status, code = 400, "VALIDATION_ERROR"


class UnknownTemplate(ValidationFailed):
    """The request names a template that the project has not."""


class Unauthorized(ApiError):
    """The request has no valid credentials."""

    status, code = 401, "UNAUTHORIZED"


class Forbidden(ApiError):
    """The credentials are valid and do not include the permission that the request needs."""

    status, code = 403, "FORBIDDEN"


class NotFound(ApiError):
    """The project has no such thing."""

    status, code = 404, "NOT_FOUND"


class TemplateNotFound(NotFound):
    """The project has no such template."""

    title = "Template not found"


class MethodNotAllowed(ApiError):
    """The path exists and does not support the method; the `Allow` header names those that it supports."""

    status, code = 405, "METHOD_NOT_ALLOWED"

    def __init__(self, allow: Collection[str]) -> None:
        super().__init__("Method not allowed")
        self.allow = ", ".join(sorted(allow))


class IdempotencyConflict(ApiError):
    """The idempotency key was used for another body."""

    status, code = 409, "IDEMPOTENCY_CONFLICT"


class NotCancellable(ApiError):
    """The message was already handed to a provider, or may have been."""

    status, code = 409, "MESSAGE_NOT_CANCELLABLE"


class SlugTaken(ApiError):
    """Another project has this slug."""

    status, code = 409, "SLUG_ALREADY_EXISTS"


class AlreadyMember(ApiError):
    """The person with this address is a member of the project already."""

    status, code = 409, "EMAIL_ALREADY_EXISTS"


class AccountExists(ApiError):
    """A person with this address has an account."""

    status, code = 409, "ACCOUNT_ALREADY_EXISTS"


class LastOwner(ApiError):
    """The project would have no member left who may do everything."""

    status, code = 409, "LAST_ADMIN"


class VersionConflict(ApiError):
    """What the request changes was changed meanwhile: read it again."""

    status, code = 409, "VERSION_CONFLICT"


class LimitReached(ApiError):
    """The project has as many of these as it may have: delete one that is not used any more."""

    status, code = 409, "LIMIT_REACHED"


class NotProbeable(ApiError):
    """The provider is healthy, disabled, or pauses because it asked for it: there is nothing to probe now."""

    status, code = 409, "NOT_PROBEABLE"


class DomainExists(ApiError):
    """The project has this domain already."""

    status, code = 409, "DOMAIN_ALREADY_EXISTS"


class DomainInUse(ApiError):
    """Messages from this domain are queued or being sent."""

    status, code = 409, "DOMAIN_HAS_ACTIVE_MESSAGES"


class TemplateChanged(ApiError):
    """Another version of the template is the current one."""

    status, code = 409, "TEMPLATE_CHANGED"


class WebhookDisabled(ApiError):
    """Nothing is sent to a disabled endpoint."""

    status, code = 409, "WEBHOOK_DISABLED"


class ChannelDisabled(ApiError):
    """The project's configuration has disabled the channel."""

    status, code = 409, "CHANNEL_DISABLED"


class ChannelConfigExists(ApiError):
    """The project has a configuration of these channels already."""

    status, code = 409, "CHANNEL_CONFIG_ALREADY_EXISTS"


class SendCancelled(ApiError):
    """The message was cancelled while the request waited for it."""

    status, code = 409, "MESSAGE_CANCELLED"


class NotRetryable(ApiError):
    """Only a delivery that has failed can be retried, once, as long as its content is stored."""

    status, code = 409, "DELIVERY_NOT_RETRYABLE"


class PayloadTooLarge(ApiError):
    """The body is larger than this installation accepts."""

    status, code = 413, "PAYLOAD_TOO_LARGE"


class TooManyRequests(ApiError):
    """The caller has more than its share of this gateway's concurrent requests, or too many attempts to log in."""

    status, code = 429, "RATE_LIMIT_EXCEEDED"


class QuotaExceeded(ApiError):
    """The project has used its quota of messages of a day, of urgent messages, or of stored attachments."""

    status, code = 429, "QUOTA_EXCEEDED"


class InternalError(ApiError):
    """A fault of this gateway. A send request may or may not have been accepted."""

    status, code = 500, "INTERNAL_ERROR"


class SendFailed(ApiError):
    """No provider has taken the message; the text is that of the last one. The message is in the delivery log."""

    status, code = 500, "SEND_FAILED"


class Unavailable(ApiError):
    """The request could not be made durable; nothing was accepted."""

    status, code = 503, "UNAVAILABLE"


_MAX_NAME, _MAX_FIELD = 100, 400  # characters of a part of a path, and of all of it
_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "json_invalid": "The body is not valid JSON.",
}


def field_of(path: Sequence[str | int]) -> str | None:
    """A path in a request as an error names it: dotted, and of bounded length; None for the request itself."""
    return ".".join(str(part)[:_MAX_NAME] for part in path)[:_MAX_FIELD] or None


def from_faults(faults: Sequence[Mapping[str, Any]], *, without: Collection[str]) -> ValidationFailed:
    """The first of pydantic's ``faults``, with the dotted path of its field.

    ``without``: first parts of a path that are no field (the member of a union, or FastAPI's ``body`` and ``query``).
    """
    fault = faults[0]
    path = fault["loc"]
    field = field_of(path[1:] if path and str(path[0]) in without else path)
    text = _MESSAGES.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
    return ValidationFailed(text if field is None else f"{field}: {text}", field=field)
