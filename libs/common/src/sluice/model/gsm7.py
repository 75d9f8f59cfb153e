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
