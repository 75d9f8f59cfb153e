"""Credentials at rest: AES-256-GCM, bound to the row they belong to."""

from __future__ import annotations

import hashlib
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sluice.runtime.errors import SluiceError

_VERSION = b"\x01"
_NONCE = 12  # bytes; GCM's standard nonce
_KEY_ID = 4  # bytes


class CredentialCipher:
    """Seals and opens provider credentials with one key.

    A sealed value is version, key id, nonce and ciphertext. Each is written once per edit of a provider, so random
    nonces stay far below GCM's limit of 2^32 for one key. Project and provider are authenticated with it: a value
    that is copied to another row does not open.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"sluice key id" + key).digest()[:_KEY_ID]

    def encrypt(self, plaintext: bytes, *, project_id: UUID, provider_id: UUID) -> bytes:
        """Encrypt ``plaintext`` for one provider of one project."""
        nonce = os.urandom(_NONCE)
        body = self._cipher.encrypt(nonce, plaintext, _bound_to(project_id, provider_id))
        return _VERSION + self._key_id + nonce + body

    def decrypt(self, ciphertext: bytes, *, project_id: UUID, provider_id: UUID) -> bytes:
        """Decrypt what :meth:`seal` made for the same row.

        Raises:
            SluiceError: another key sealed it, it belongs to another row, or it was changed.
        """
        head = len(_VERSION) + _KEY_ID
        if ciphertext[:1] != _VERSION or ciphertext[1:head] != self._key_id:
            raise SluiceError(f"the credentials of provider {provider_id} were sealed with another key")
        nonce, body = ciphertext[head : head + _NONCE], ciphertext[head + _NONCE :]
        try:
            return self._cipher.decrypt(nonce, body, _bound_to(project_id, provider_id))
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise SluiceError(f"the credentials of provider {provider_id} do not open: they were changed") from None


def _bound_to(project_id: UUID, provider_id: UUID) -> bytes:
    return b"sluice provider credentials" + project_id.bytes + provider_id.bytes
