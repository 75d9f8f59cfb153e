"""SNS's error codes, the words of its delivery status logs, and the forms in which the logs are forwarded."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

import orjson

from sluice.model.outcome import (
    AuthFailed,
    Declined,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType


def _codes(refusal: Refusal, *codes: str) -> dict[str, Refusal]:
    return dict.fromkeys(codes, refusal)


# Without a trailing "Exception", which is written or not.
ERROR_CODES: Mapping[str, Refusal] = {
    **_codes(Declined(Reason.INVALID_CONTENT), "Validation", "ValidationError", "InvalidParameterCombination"),
    **_codes(Declined(Reason.INVALID_CONTENT), "InvalidQueryParameter", "MissingParameter", "MissingAction"),
    **_codes(Declined(Reason.INVALID_CONTENT), "MalformedQueryString", "InvalidAction"),
    "OptedOut": RecipientRejected(Reason.UNSUBSCRIBED),
    **_codes(AuthFailed(), "UserError", "AuthorizationError", "AccessDenied", "NotAuthorized", "InvalidClientTokenId"),
    **_codes(AuthFailed(), "SignatureDoesNotMatch", "MissingAuthenticationToken", "InvalidSecurity"),
    **_codes(AuthFailed(), "IncompleteSignature", "ExpiredToken", "OptInRequired"),
    "RequestExpired": AuthFailed(),  # this machine's clock
    **_codes(AuthFailed(), "NotFound", "EndpointDisabled", "PlatformApplicationDisabled"),
    **_codes(AuthFailed(), "KMSAccessDenied", "KMSDisabled", "KMSInvalidState", "KMSNotFound", "KMSOptInRequired"),
    **_codes(Throttled(), "KMSThrottling", "Throttling", "Throttled", "RequestThrottled", "TooManyRequests"),
    **_codes(Throttled(), "RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceeded", "SlowDown"),
    **_codes(Unknown(), "InternalError", "InternalFailure"),
    "ServiceUnavailable": ProviderFault(),
}
INVALID_VALUE = frozenset({"InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid"})
# Of an invalid value: a part of the message in lower case that names the field; the first that is found decides.
ERROR_TEXTS: Mapping[str, Refusal] = {
    "senderid": Declined(Reason.SENDER),
    "origination": Declined(Reason.SENDER),
    "phonenumber": RecipientRejected(Reason.INVALID_ADDRESS),
    "phone number": RecipientRejected(Reason.INVALID_ADDRESS),
    "attribute": Declined(Reason.INVALID_CONTENT, scope=Scope.ACCOUNT),  # every other attribute is the account's
    ".sms.": Declined(Reason.INVALID_CONTENT, scope=Scope.ACCOUNT),
    "too long": Declined(Reason.TOO_LARGE),
    "must be less than": Declined(Reason.TOO_LARGE),  # moto's words
    "message": Declined(Reason.INVALID_CONTENT),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: Declined(Reason.INVALID_CONTENT),
    401: AuthFailed(),
    403: AuthFailed(),
    404: AuthFailed(),
    429: Throttled(),
    503: ProviderFault(),
}

# Of a failure in the logs: the beginning of ``providerResponse``, case-folded.
EVENT_TYPES: Mapping[str, tuple[EventType, Reason | None]] = {
    "invalid phone number": (EventType.BOUNCED, Reason.INVALID_ADDRESS),
    "phone number is opted out": (EventType.BOUNCED, Reason.UNSUBSCRIBED),
    "phone has blocked sms": (EventType.BOUNCED, Reason.BLOCKED),
    "phone is on a blocked list": (EventType.BOUNCED, Reason.BLOCKED),
    "phone is blacklisted": (EventType.BOUNCED, Reason.BLOCKED),  # the older words
    "destination is on a blocked list": (EventType.BOUNCED, Reason.BLOCKED),
    "destination is blacklisted": (EventType.BOUNCED, Reason.BLOCKED),
    "phone carrier has blocked this message": (EventType.FAILED, Reason.BLOCKED),
    "blocked as spam by phone carrier": (EventType.FAILED, Reason.SPAM),
    "message body is invalid": (EventType.FAILED, Reason.INVALID_CONTENT),
    "phone is currently unreachable/unavailable": (EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
    "phone carrier is currently unreachable/unavailable": (EventType.SOFT_BOUNCE, Reason.NETWORK),
    "this delivery would exceed max price": (EventType.FAILED, Reason.QUOTA),
    "unknown error attempting to reach phone": (EventType.FAILED, Reason.NETWORK),
    "no quota left for account": (EventType.FAILED, Reason.QUOTA),
    "your account requires additional review": (EventType.FAILED, Reason.CREDENTIALS),
    "": (EventType.FAILED, Reason.OTHER),  # every other beginning
}


# Forwarded logs --------------------------------------------------------------------------------------------

MAX_LOG = 1_048_576  # bytes of a log batch after decompression


class LogBatchTooLargeError(Exception):
    """A log batch is larger than MAX_LOG."""


def log_entries(content: bytes) -> list[Mapping[str, Any]]:
    """The entries of a subscription filter's event, of its decoded form, of a list, or one entry alone.

    Raises:
        LogBatchTooLargeError: after decompression it is larger than MAX_LOG.
    """
    body = _json(content)
    if isinstance(body, dict) and isinstance(body.get("awslogs"), dict):
        body = _json(_unpacked(body["awslogs"].get("data")))
    if isinstance(body, dict) and isinstance(body.get("logEvents"), list):
        wanted = body.get("messageType", "DATA_MESSAGE") == "DATA_MESSAGE"
        messages = [one.get("message") for one in body["logEvents"] if isinstance(one, dict)] if wanted else []
        body = [_json(one.encode("utf-8", "replace")) if isinstance(one, str) else one for one in messages]
    return [entry for entry in (body if isinstance(body, list) else [body]) if isinstance(entry, dict)]


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _unpacked(data: object) -> bytes:
    """Base64 of gzip; empty when it is something else."""
    try:
        stream = zlib.decompressobj(wbits=31)
        content = stream.decompress(base64.b64decode(str(data), validate=True), MAX_LOG)
    except (binascii.Error, zlib.error, ValueError):
        return b""
    if stream.unconsumed_tail:
        raise LogBatchTooLargeError
    return content
