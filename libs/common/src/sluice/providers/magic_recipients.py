"""Magic recipients: the outcome of a test message by its recipient. docs/api/providers.md lists them."""

from __future__ import annotations

import re
from enum import StrEnum

from sluice.model.address import InvalidAddressError, parse_address
from sluice.model.message import ChatMessage, Email, Push, Sms, Whatsapp
from sluice.model.state import EventType

DOMAIN = "sandbox.example"  # RFC 2606: never a real one
NUMBERS = "+4477009000"  # the range that Ofcom keeps for drama; two digits follow
PREFIX = "magic:"  # of chat ids and device tokens


class MagicRecipient(StrEnum):
    """The magic recipients, by what becomes of a test message to them."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SOFT_BOUNCE = "soft_bounce"
    COMPLAINED = "complained"
    FAILED = "failed"  # the recipient is refused
    THROTTLED = "throttled"  # the first attempt is throttled, the second one delivered
    UNKNOWN = "unknown"  # no attempt is answered


_BY_NUMBER = {f"{NUMBERS}{at:02}": magic for at, magic in enumerate(MagicRecipient, 1)}
_BY_NAME = {magic.value: magic for magic in MagicRecipient}
_TAG = re.compile(r"\+.*")

_RECEIPTS = {
    MagicRecipient.DELIVERED: (EventType.DELIVERED,),
    MagicRecipient.BOUNCED: (EventType.BOUNCED,),
    MagicRecipient.SOFT_BOUNCE: (EventType.SOFT_BOUNCE,),
    MagicRecipient.COMPLAINED: (EventType.DELIVERED, EventType.COMPLAINED),
    MagicRecipient.THROTTLED: (EventType.DELIVERED,),
}


def receipts_of(magic: MagicRecipient | None) -> tuple[EventType, ...]:
    """The receipts that follow an accepted attempt, in order."""
    return () if magic is None else _RECEIPTS.get(magic, ())


def magic_recipient_of(content: Email | Sms | Whatsapp | ChatMessage | Push, recipient: str) -> MagicRecipient | None:
    """The magic recipient of a message, if it has one. Of a mail's recipients the first magic one decides."""
    if isinstance(content, Email):
        found = (_of_address(text) for text in (*content.to, *content.cc, *content.bcc))
        return next((magic for magic in found if magic is not None), None)
    if recipient.startswith(PREFIX):
        return _BY_NAME.get(recipient.removeprefix(PREFIX))
    return _BY_NUMBER.get(recipient)


def _of_address(text: str) -> MagicRecipient | None:
    try:
        address = parse_address(text)
    except InvalidAddressError:
        return None
    return _BY_NAME.get(_TAG.sub("", address.local).lower()) if address.domain == DOMAIN else None
