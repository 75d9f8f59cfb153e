"""The destination of a delivery, by which a provider's health is kept apart: a country code or a mail domain."""

from __future__ import annotations

from sluice.model.message import Channel

_BY_NUMBER = frozenset({Channel.SMS, Channel.WHATSAPP, Channel.SIGNAL})
# The assigned country codes of ITU-T E.164 with one and with two digits; all others have three.
_ONE_DIGIT = frozenset("17")
_TWO_DIGITS = frozenset(
    [
        "20",
        "27",
        "30",
        "31",
        "32",
        "33",
        "34",
        "36",
        "39",
        "40",
        "41",
        "43",
        "44",
        "45",
        "46",
        "47",
        "48",
        "49",
        "51",
        "52",
        "53",
        "54",
        "55",
        "56",
        "57",
        "58",
        "60",
        "61",
        "62",
        "63",
        "64",
        "65",
        "66",
        "81",
        "82",
        "84",
        "86",
        "90",
        "91",
        "92",
        "93",
        "94",
        "95",
        "98",
    ]
)


def destination_of(channel: Channel, recipient: str) -> str:
    """``+44`` for a number, ``example.com`` for an e-mail address, "" where neither is known."""
    if channel in _BY_NUMBER:
        if not recipient.startswith("+"):
            return ""
        length = 1 if recipient[1:2] in _ONE_DIGIT else 2 if recipient[1:3] in _TWO_DIGITS else 3
        return recipient[: 1 + length]
    if channel is Channel.EMAIL:
        return recipient.rpartition("@")[2].rstrip(">").lower()
    return ""
