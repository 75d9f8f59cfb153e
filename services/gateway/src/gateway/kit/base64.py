"""Base64 of an attachment (RFC 4648 4), also in lines, as MIME and many encoders write it (RFC 2045 6.8)."""

from __future__ import annotations

import binascii
import re

_PIECE = 1 << 20  # characters; between two pieces other threads run
_URL_SAFE = re.compile(r"[-_]")


def decode_base64(text: str) -> bytes:
    """The bytes of ``text``; line breaks and blanks do not count.

    Raises:
        ValueError: the text is not base64; the message names the usual causes.
    """
    compact = "".join(text.split())
    pieces = [compact[at : at + _PIECE] for at in range(0, len(compact), _PIECE)]
    try:
        if any("=" in piece for piece in pieces[:-1]):
            raise ValueError
        return b"".join([binascii.a2b_base64(piece, strict_mode=True) for piece in pieces])
    except ValueError:
        raise ValueError(f"is not base64{_cause(compact)}") from None


def _cause(text: str) -> str:
    if text.startswith("data:"):
        return ": give the part after the comma of the data URL"
    if _URL_SAFE.search(text):
        return ": it uses the alphabet of URLs; use + and / in place of - and _"
    return ": its padding with = is missing" if len(text.rstrip("=")) % 4 and not text.endswith("=") else ""
