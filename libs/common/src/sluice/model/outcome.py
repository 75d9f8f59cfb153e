"""The result of one attempt: a closed union. Each member makes the worker do something different.

``reason`` is the normalised cause, ``detail`` the provider's own words after redaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sluice.model.reasons import Reason

MAX_PROVIDER_TEXT = 1000
"""Characters of a provider's text or message id that are stored."""


class Scope(StrEnum):
    """The extent of a refusal: which later calls would meet it as well."""

    MESSAGE = "message"  # this message only
    RECIPIENT = "recipient"  # every message to this recipient
    PAIR = "pair"  # every message of this sender to this recipient
    SENDER = "sender"  # every message of this sender
    ACCOUNT = "account"  # every message through this account


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the message.

    ``provider_message_id`` is its own id for the message ("" when it gives none). ``receipt_ids`` are the ids that
    its receipts carry where they do not carry our reference: several for a message in parts. ``detail`` goes into the
    event, without redaction: a text of the package's own.
    """

    provider_message_id: str
    receipt_ids: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RecipientRejected:
    """No provider will deliver to this recipient: final. The reason decides whether the recipient is suppressed, and
    its device removed (``sluice.model.suppression``)."""

    reason: Reason = Reason.OTHER
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    """This account or server does not take the message; another provider may. ``scope``: MESSAGE or ACCOUNT."""

    reason: Reason = Reason.OTHER
    detail: str = ""
    scope: Scope = Scope.MESSAGE


@dataclass(frozen=True, slots=True)
class Throttled:
    """Not taken because of a rate or a quota; ``retry_after`` is the provider's wait, None when it names none."""

    detail: str = ""
    retry_after: timedelta | None = None
    scope: Scope = Scope.ACCOUNT


@dataclass(frozen=True, slots=True)
class AuthFailed:
    """The account's credentials or configuration are refused, whatever the message: suspend the account."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProviderFault:
    """Not taken, through the provider's own fault: the next provider may be tried safely.

    With the scope MESSAGE it was not called at all: no evidence about the provider.
    """

    detail: str = ""
    scope: Scope = Scope.ACCOUNT


@dataclass(frozen=True, slots=True)
class Unknown:
    """Bytes were sent and no response came: the message may or may not have been taken."""

    detail: str = ""


Refusal = RecipientRejected | Declined | Throttled | AuthFailed | ProviderFault | Unknown
Outcome = Accepted | Refusal


@dataclass(frozen=True, slots=True)
class Part:
    """The outcome for some of the recipients of one envelope."""

    recipients: tuple[str, ...]  # bare addresses
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Divided:
    """One call with several outcomes: each recipient of the envelope is in exactly one part, and there are several.

    The first part keeps the delivery; each of the others becomes a delivery of its own.
    """

    parts: tuple[Part, ...]


def outcome_name(outcome: Outcome) -> str:
    """The outcome's word in SQL, events and metrics."""
    return _NAMES[type(outcome)]


DEFINITE_FAILURES = ("declined", "throttled", "auth_failed", "provider_fault")
"""The outcomes after which another attempt is allowed and cannot cause a duplicate: the message was not taken."""

_NAMES: dict[type[Outcome], str] = {
    Accepted: "accepted",
    RecipientRejected: "recipient_rejected",
    Declined: "declined",
    Throttled: "throttled",
    AuthFailed: "auth_failed",
    ProviderFault: "provider_fault",
    Unknown: "unknown",
}
