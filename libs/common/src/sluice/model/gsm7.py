"""The GSM 7-bit default alphabet and its extension table (3GPP TS 23.038, 6.2.1)."""

from __future__ import annotations

ESCAPE = 0x1B  # the septet before one of the extension table
BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = {
    0x0A: "\f", 0x14: "^", 0x28: "{", 0x29: "}", 0x2F: "\\", 0x3C: "[", 0x3D: "~", 0x3E: "]", 0x40: "|", 0x65: "€",
}  # fmt: skip
_CHARACTERS = (frozenset(BASIC) | frozenset(EXTENSION.values())) - {chr(ESCAPE)}


def is_gsm7(text: str) -> bool:
    """Whether the alphabet has every character; a text with another one is sent as UCS-2, in shorter parts."""
    return _CHARACTERS.issuperset(text)


_GSM7_PARTS = (160, 153)  # septets of a text in one part, and of each of several
_UCS2_PARTS = (70, 67)  # the same in UTF-16 code units
_WIDE = frozenset(EXTENSION.values())  # two septets


def segment_count(text: str) -> int:
    """The number of short messages that carry a text: at least 1.

    In the default alphabet if that has every character, else in UCS-2; cut between characters, with a user data header
    in each of several parts.
    """
    if len(text) <= _UCS2_PARTS[0] // 2:  # no character takes more than two units
        return 1
    if is_gsm7(text):
        single, part = _GSM7_PARTS
        widths = [2 if character in _WIDE else 1 for character in text]
    else:
        single, part = _UCS2_PARTS
        widths = [2 if character > "\uffff" else 1 for character in text]
    if sum(widths) <= single:
        return 1
    segments, left = 1, part
    for width in widths:
        if width > left:
            segments, left = segments + 1, part
        left -= width
    return segments
