"""Encryption of provider credentials: AES-256-GCM, bound to project and provider."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sluice.runtime.errors import SluiceError

_VERSION = b"\x01"
_NONCE = 12  # bytes; GCM's standard nonce
_KEY_ID = 4  # bytes


class CredentialCipher:
    """Encrypts and decrypts provider credentials with one key of 32 bytes.

    An encrypted value is version, key id, nonce and ciphertext. One is written per change of a provider, so random
    nonces stay far below GCM's limit of 2^32 for one key. Project and provider are authenticated with it: a value
    that is copied to another row cannot be decrypted.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"sluice key id" + key).digest()[:_KEY_ID]

    def encrypt_credentials(self, credentials: Mapping[str, Any], *, project_id: UUID, provider_id: UUID) -> bytes:
        """Encrypt credentials as JSON for one provider of one project."""
        return self.encrypt(json.dumps(dict(credentials)).encode(), project_id=project_id, provider_id=provider_id)

    def encrypt(self, plaintext: bytes, *, project_id: UUID, provider_id: UUID) -> bytes:
        """Encrypt ``plaintext`` for one provider of one project."""
        nonce = os.urandom(_NONCE)
        body = self._cipher.encrypt(nonce, plaintext, _bound_to(project_id, provider_id))
        return _VERSION + self._key_id + nonce + body

    def decrypt(self, ciphertext: bytes, *, project_id: UUID, provider_id: UUID) -> bytes:
        """Decrypt the result of :meth:`encrypt` for the same project and provider.

        Raises:
            SluiceError: it was encrypted with another key or for another row, or it was changed.
        """
        head = len(_VERSION) + _KEY_ID
        if ciphertext[:1] != _VERSION or ciphertext[1:head] != self._key_id:
            raise SluiceError(f"the credentials of provider {provider_id} were encrypted with another key")
        nonce, body = ciphertext[head : head + _NONCE], ciphertext[head + _NONCE :]
        try:
            return self._cipher.decrypt(nonce, body, _bound_to(project_id, provider_id))
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise SluiceError(
                f"the credentials of provider {provider_id} cannot be decrypted: they were changed"
            ) from None


def _bound_to(project_id: UUID, provider_id: UUID) -> bytes:
    return b"sluice provider credentials" + project_id.bytes + provider_id.bytes
