"""Text to the octets of one or several short messages, and back.

GSM 03.38 default alphabet with its extension table, sent unpacked (one septet in an octet), else UCS-2, which the field
uses as UTF-16 big-endian. A text is cut between characters only: never between an escape and its character, never
inside a surrogate pair.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from sluice.model.gsm7 import BASIC, ESCAPE, EXTENSION
from sluice.transports.smpp.pdu import UDHI, Tag, Tlvs

MAX_SEGMENTS = 255  # the count of parts is one octet in the header and in the TLV

_GSM7 = {character: bytes((code,)) for code, character in enumerate(BASIC) if code != ESCAPE} | {
    character: bytes((ESCAPE, code)) for code, character in EXTENSION.items()
}


class Alphabet(StrEnum):
    """The meaning of data_coding 0 at an SMSC, as agreed with the operator."""

    GSM7 = "gsm7"
    LATIN1 = "latin1"
    ASCII = "ascii"


class LongMessageMode(StrEnum):
    """The form of a text that does not fit into one short message, as agreed with the operator."""

    UDH = "udh"  # each part begins with a user data header
    SAR = "sar"  # each part has the three sar_ TLVs
    PAYLOAD = "payload"  # one PDU with the TLV message_payload; the SMSC cuts


class EncodingError(ValueError):
    """A text cannot be sent: it has half a surrogate pair or needs more than 255 parts."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What one submit_sm carries of a text."""

    data_coding: int
    short_message: bytes = field(repr=False)
    esm_class: int = 0
    tlvs: Tlvs = field(default=(), repr=False)


UCS2 = 8  # data_coding
_SINGLE_AND_PART = {Alphabet.GSM7: (160, 153), Alphabet.LATIN1: (140, 134), Alphabet.ASCII: (140, 134)}  # octets


def segment(
    text: str,
    *,
    reference: int,
    mode: LongMessageMode = LongMessageMode.UDH,
    default: Alphabet = Alphabet.GSM7,
) -> list[Segment]:
    """Cut a text into its segments: in the default alphabet when that has every character, else in UCS-2.

    ``reference`` marks the parts of one text at the recipient; its low 8 bits (UDH) or 16 bits (SAR) are used.

    Raises:
        EncodingError: the text cannot be sent.
    """
    units = _units(text, default)
    data_coding, (single, part) = 0, _SINGLE_AND_PART[default]
    if units is None:
        units, data_coding, single, part = _ucs2_units(text), UCS2, 140, 134
    whole = b"".join(units)
    if len(whole) <= single:
        return [Segment(data_coding, whole)]
    if mode is LongMessageMode.PAYLOAD:
        return [Segment(data_coding, b"", tlvs=((Tag.MESSAGE_PAYLOAD, whole),))]
    parts = _pack(units, part)
    total = len(parts)
    if total > MAX_SEGMENTS:
        raise EncodingError(f"the text needs {total} parts, at most {MAX_SEGMENTS} are possible")
    if mode is LongMessageMode.UDH:
        headers = (bytes((5, 0, 3, reference & 0xFF, total, number)) for number in range(1, total + 1))
        return [Segment(data_coding, header + octets, UDHI) for header, octets in zip(headers, parts, strict=True)]
    return [Segment(data_coding, octets, 0, _sar(reference, total, number)) for number, octets in enumerate(parts, 1)]


def _sar(reference: int, total: int, number: int) -> Tlvs:
    return (
        (Tag.SAR_MSG_REF_NUM, struct.pack("!H", reference & 0xFFFF)),
        (Tag.SAR_TOTAL_SEGMENTS, bytes((total,))),
        (Tag.SAR_SEGMENT_SEQNUM, bytes((number,))),
    )


def _units(text: str, alphabet: Alphabet) -> list[bytes] | None:
    """Each character's octets, or None when the alphabet lacks one."""
    try:
        if alphabet is Alphabet.GSM7:
            return [_GSM7[character] for character in text]
        return [character.encode(alphabet.value) for character in text]
    except (KeyError, UnicodeEncodeError):
        return None


def _ucs2_units(text: str) -> list[bytes]:
    try:
        return [character.encode("utf-16-be") for character in text]
    except UnicodeEncodeError as error:
        raise EncodingError("the text has half a surrogate pair") from error


def _pack(units: Iterable[bytes], limit: int) -> list[bytes]:
    """Whole units joined to parts of at most ``limit`` octets."""
    parts: list[bytes] = []
    part = bytearray()
    for unit in units:
        if len(part) + len(unit) > limit:
            parts.append(bytes(part))
            part.clear()
        part += unit
    return [*parts, bytes(part)]


def split_header(user_data: bytes) -> tuple[bytes, bytes]:
    """The user data header (without its length octet) and the content that follows, for an esm_class with UDHI.

    A header longer than the data is taken for content.
    """
    if not user_data or user_data[0] >= len(user_data):
        return b"", user_data
    end = 1 + user_data[0]
    return user_data[1:end], user_data[end:]


def decode_text(octets: bytes, data_coding: int, default: Alphabet = Alphabet.GSM7) -> str | None:
    """The text of a received message; None for binary content and for codings that are not text in Sluice.

    An octet without a character becomes U+FFFD.
    """
    if data_coding == UCS2:
        return octets.decode("utf-16-be", "replace")
    if data_coding == 0 and default is Alphabet.GSM7:
        return _decode_gsm7(octets)
    codec = {0: default.value, 1: "ascii", 3: "latin-1"}.get(data_coding)
    return octets.decode(codec, "replace") if codec else None


def _decode_gsm7(octets: bytes) -> str:
    characters: list[str] = []
    escaped = False
    for octet in octets:
        if octet == ESCAPE:
            escaped = True
            continue
        basic = BASIC[octet] if octet < len(BASIC) else "\ufffd"
        # An unknown escape shows the basic character (3GPP TS 23.038, 6.2.1.1).
        characters.append(EXTENSION.get(octet, basic) if escaped else basic)
        escaped = False
    return "".join(characters)
