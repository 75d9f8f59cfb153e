"""Signing secrets of webhooks, as text: ``whsec_`` and the random bytes in base64."""

from __future__ import annotations

import base64
import secrets

SECRET_PREFIX = "whsec_"  # noqa: S105  not a secret
_RANDOM = 32  # bytes


def new_secret() -> bytes:
    """The random bytes of a new secret."""
    return secrets.token_bytes(_RANDOM)


def secret_text(secret: bytes) -> str:
    """The secret as the customer gets it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()
