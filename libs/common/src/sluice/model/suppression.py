"""Suppressions: which events suppress an address, and the form in which addresses are compared."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum

from sluice.model.address import InvalidAddressError, parse_address
from sluice.model.message import Channel
from sluice.model.reasons import Reason
from sluice.model.state import EventType

MAX_ADDRESS = 600  # characters of 4 bytes: an entry of an index has at most about 2,700 bytes


class SuppressionReason(StrEnum):
    """Why nothing is sent to an address."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"


_GONE = frozenset({Reason.INVALID_ADDRESS, Reason.UNKNOWN_RECIPIENT, Reason.DISABLED})
OPT_OUTS: Mapping[str, SuppressionReason] = {
    Reason.UNSUBSCRIBED: SuppressionReason.UNSUBSCRIBE,
    Reason.COMPLAINT: SuppressionReason.COMPLAINT,
}
"""The reasons with which a recipient refuses further messages."""


def suppression_reason(type_: str, reason: str | None) -> SuppressionReason | None:
    """Why an event of this type and reason suppresses its recipient; None for one that does not.

    A bounce without a cause is a permanent failure of the address by the provider's own definition. A bounce with
    another cause (spam, policy, a full mailbox) is about the message or the time. A failure suppresses only when the
    address itself is the cause, whether the provider says so in its response or in a receipt.
    """
    if type_ == EventType.COMPLAINED:
        return SuppressionReason.COMPLAINT
    if type_ not in (EventType.BOUNCED, EventType.FAILED):
        return None
    if reason is not None and reason in OPT_OUTS:
        return OPT_OUTS[reason]
    if reason in _GONE or (type_ == EventType.BOUNCED and reason in (None, Reason.OTHER)):
        return SuppressionReason.HARD_BOUNCE
    return None


def describe_suppression(reasons: Iterable[SuppressionReason]) -> str:
    """The detail of the event with which a suppressed delivery fails."""
    return f"the address is suppressed: {', '.join(sorted(set(reasons)))}"


def normalise_address(channel: Channel, text: str) -> str:
    """The form in which two addresses of a channel are the same recipient.

    An e-mail address is compared without its name and in lower case: servers that distinguish the case of mailboxes do
    not occur in practice, and a wrong suppression can be removed, which a complaint cannot.

    Raises:
        InvalidAddressError: ``text`` is not an e-mail address, on that channel.
    """
    if channel is Channel.EMAIL:
        return unicodedata.normalize("NFC", parse_address(text).bare).casefold()
    return text.strip()


def known_address(channel: Channel, text: str) -> str | None:
    """:func:`normalise_address`, or None for a text that cannot be suppressed."""
    try:
        address = normalise_address(channel, text)
    except InvalidAddressError:
        return None
    return address if 0 < len(address) <= MAX_ADDRESS else None
