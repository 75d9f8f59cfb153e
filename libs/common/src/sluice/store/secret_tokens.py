"""Secret texts that authenticate by themselves: sessions, refresh tokens, invitations, login links.

Only their hash is stored.
"""

from __future__ import annotations

import hashlib
import re
import secrets

_RANDOM = 32  # bytes
_TAIL = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes in URL-safe base 64

SESSION, REFRESH, INVITATION, LOGIN_LINK = "ses_", "ref_", "inv_", "lnk_"


def new_token(prefix: str) -> tuple[str, bytes]:
    """A new token with this prefix, and the hash by which it is found."""
    token = prefix + secrets.token_urlsafe(_RANDOM)
    return token, hash_token(token)


def hash_token(token: str) -> bytes:
    """SHA-256 of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def is_token(prefix: str, text: str) -> bool:
    """Whether ``text`` has the form of a token with this prefix; any other text needs no look-up."""
    return text.startswith(prefix) and _TAIL.fullmatch(text, len(prefix)) is not None
