"""SES's error codes, and the types of its events."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.model.outcome import AuthFailed, Declined, ProviderFault, Refusal, Throttled
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.kit.error_table import rows
from sluice.providers.kit.responses import MAX_RETRY_AFTER

_INVALID = Declined(Reason.INVALID_CONTENT)
_ADDRESS = Declined(Reason.INVALID_ADDRESS)  # of one of several recipients, by a rule of SES
_INVALID_VALUE = ("MessageRejected", "BadRequest", "InvalidParameterValue", "Validation")
_SENDER = Declined(Reason.SENDER)  # the sender, and its domain, are always the message's own

# Without a trailing "Exception", which is written or not.
ERROR_CODES: Mapping[str, Refusal] = {
    **rows(Throttled(), "TooManyRequests", "Throttling", "LimitExceeded"),
    **rows(_INVALID, "Serialization", *_INVALID_VALUE),
    "MailFromDomainNotVerified": _SENDER,
    **rows(AuthFailed(), "AccountSuspended", "SendingPaused"),
    "NotFound": AuthFailed(),  # the configuration set
    **rows(AuthFailed(), "InvalidClientTokenId", "UnrecognizedClient", "SignatureDoesNotMatch", "InvalidSignature"),
    **rows(AuthFailed(), "AccessDenied", "NotAuthorized", "ExpiredToken", "IncompleteSignature"),
    **rows(AuthFailed(), "MissingAuthenticationToken", "OptInRequired"),
    "RequestExpired": AuthFailed(),  # this machine's clock
    "RequestEntityTooLarge": Declined(Reason.TOO_LARGE),
    **rows(ProviderFault(), "InternalFailure", "InternalServiceError", "ServiceUnavailable"),
}
# Code and part of the message in lower case.
ERROR_TEXTS: Mapping[tuple[str, str], Refusal] = {
    ("TooManyRequests", "daily message quota exceeded"): Throttled(retry_after=MAX_RETRY_AFTER),
    ("Throttling", "daily message quota exceeded"): Throttled(retry_after=MAX_RETRY_AFTER),
    ("MessageRejected", "not verified"): _SENDER,  # in the sandbox also a recipient's
    **rows(AuthFailed(), *((code, "configuration set") for code in _INVALID_VALUE)),
    **rows(Declined(Reason.TOO_LARGE), *((code, "too many recipients") for code in _INVALID_VALUE)),
    **rows(_ADDRESS, *((code, "local address contains") for code in _INVALID_VALUE)),
    **rows(_ADDRESS, *((code, "domain ends with dot") for code in _INVALID_VALUE)),
}
# 500 and 503 without a code come from something in front of SES, which may have passed the request on.
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: _INVALID,
    401: AuthFailed(),
    403: AuthFailed(),
    404: AuthFailed(),
    413: Declined(Reason.TOO_LARGE),
    429: Throttled(),
}

# The type of an event, or of the older notifications; the object with its details; what it says.
EVENT_TYPES: Mapping[str, tuple[str, EventType, Reason | None]] = {
    "Send": ("send", EventType.SENT, None),
    "Delivery": ("delivery", EventType.DELIVERED, None),
    "DeliveryDelay": ("deliveryDelay", EventType.DEFERRED, None),
    "Bounce": ("bounce", EventType.SOFT_BOUNCE, Reason.OTHER),
    "Complaint": ("complaint", EventType.COMPLAINED, Reason.COMPLAINT),
    "Reject": ("reject", EventType.FAILED, Reason.POLICY),  # a virus
    "Rendering Failure": ("failure", EventType.FAILED, Reason.INVALID_CONTENT),
    "Open": ("open", EventType.OPENED, None),
    "Click": ("click", EventType.CLICKED, None),
}
# Type and subtype of a bounce or a complaint; an unknown permanent bounce is one, an unknown other one is soft. The
# cause of OTHER is in the subtype, or in what the mail server said.
BOUNCE_TYPES: Mapping[tuple[str, str], tuple[EventType, Reason]] = {
    ("Permanent", ""): (EventType.BOUNCED, Reason.OTHER),
    ("Permanent", "Suppressed"): (EventType.FAILED, Reason.BLOCKED),
    ("Permanent", "OnAccountSuppressionList"): (EventType.FAILED, Reason.BLOCKED),
    ("Permanent", "UnsubscribedRecipient"): (EventType.FAILED, Reason.UNSUBSCRIBED),
    ("Complaint", "OnAccountSuppressionList"): (EventType.FAILED, Reason.COMPLAINT),  # never attempted
}
