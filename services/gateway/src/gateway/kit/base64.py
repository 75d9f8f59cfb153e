"""Base64 of an attachment (RFC 4648 4), also in lines, as MIME and many encoders write it (RFC 2045 6.8)."""

from __future__ import annotations

import binascii
import re

_PIECE = 64 << 10  # characters; between two pieces the event loop runs, which waits for at most one of them
_URL_SAFE = re.compile(r"[-_]")


def decode_base64(text: str) -> bytes:
    """The bytes of ``text``; line breaks and blanks do not count.

    Raises:
        ValueError: the text is not base64; the message names the usual causes.
    """
    decoded, rest, padded = [], "", False
    try:
        for at in range(0, len(text), _PIECE):
            piece = rest + "".join(text[at : at + _PIECE].split())
            if padded and piece:
                raise ValueError
            whole = len(piece) & ~3
            decoded.append(binascii.a2b_base64(piece[:whole], strict_mode=True))
            padded, rest = "=" in piece[:whole], piece[whole:]
        if rest:
            raise ValueError
    except ValueError:
        raise ValueError(f"is not base64{_cause(''.join(text.split()))}") from None
    return b"".join(decoded)


def _cause(text: str) -> str:
    if text.startswith("data:"):
        return ": give the part after the comma of the data URL"
    if _URL_SAFE.search(text):
        return ": it uses the alphabet of URLs; use + and / in place of - and _"
    return ": its padding with = is missing" if len(text.rstrip("=")) % 4 and not text.endswith("=") else ""
