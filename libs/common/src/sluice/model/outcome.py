"""What one attempt ended in: a closed union. Each member makes the worker do something different."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has taken the message over; ``provider_message_id`` is its own id for it ("" when it gives none)."""

    provider_message_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """This message will never be taken by any provider (bad recipient, bad content): no retry, no failover."""

    reason: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """Not taken, because of a rate or a quota; ``retry_after`` is the provider's own wish, None when it named none."""

    reason: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class AuthFailed:
    """Our account or its configuration is at fault, not the message: park the account, try the next provider."""

    reason: str


@dataclass(frozen=True, slots=True)
class ProviderFault:
    """Definitely not taken, and it is the provider's fault: the next provider may be tried safely."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Bytes were sent and no answer came: the message may or may not have been taken."""

    reason: str


Outcome = Accepted | Rejected | Throttled | AuthFailed | ProviderFault | Unknown
