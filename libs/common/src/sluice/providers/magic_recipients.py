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


class Scenario(StrEnum):
    """What becomes of a test message."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SOFT_BOUNCE = "soft_bounce"
    COMPLAINED = "complained"
    FAILED = "failed"  # the recipient is refused
    THROTTLED = "throttled"  # the first attempt is throttled, the second one delivered
    UNKNOWN = "unknown"  # no attempt is answered


_BY_NUMBER = {f"{NUMBERS}{at:02}": scenario for at, scenario in enumerate(Scenario, 1)}
_BY_NAME = {scenario.value: scenario for scenario in Scenario}
_TAG = re.compile(r"\+.*")

RECEIPTS = {
    Scenario.DELIVERED: (EventType.DELIVERED,),
    Scenario.BOUNCED: (EventType.BOUNCED,),
    Scenario.SOFT_BOUNCE: (EventType.SOFT_BOUNCE,),
    Scenario.COMPLAINED: (EventType.DELIVERED, EventType.COMPLAINED),
    Scenario.THROTTLED: (EventType.DELIVERED,),
}
"""The receipts that follow an accepted attempt, in order."""


def scenario_of(content: Email | Sms | Whatsapp | ChatMessage | Push, recipient: str) -> Scenario | None:
    """The scenario of a message; None without a magic recipient. Of a mail's recipients the first magic one decides."""
    if isinstance(content, Email):
        found = (_of_address(text) for text in (*content.to, *content.cc, *content.bcc))
        return next((scenario for scenario in found if scenario is not None), None)
    if recipient.startswith(PREFIX):
        return _BY_NAME.get(recipient.removeprefix(PREFIX))
    return _BY_NUMBER.get(recipient)


def _of_address(text: str) -> Scenario | None:
    try:
        address = parse_address(text)
    except InvalidAddressError:
        return None
    return _BY_NAME.get(_TAG.sub("", address.local).lower()) if address.domain == DOMAIN else None
