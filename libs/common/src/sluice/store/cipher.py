"""Encryption of secrets that are needed again: AES-256-GCM, bound to their row and version."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sluice.runtime.errors import SluiceError

_FORMAT = b"\x01"
_NONCE = 12  # bytes; GCM's standard nonce
_KEY_ID = 4  # bytes
_HEAD = len(_FORMAT) + _KEY_ID

KeySource = Callable[[], Sequence[bytes]]
"""Returns the keys of 32 bytes, at least one; the first encrypts."""


class CredentialCipher:
    """Encrypts credentials with the first of its keys, and decrypts them with whichever key encrypted them.

    An encrypted value is format, key id, nonce and ciphertext. One is written per change of a provider, so random
    nonces stay far below GCM's limit of 2^32 for one key. The field, project, provider and version of the credentials
    are authenticated with it: a value that is copied to another row, or an older value of the same row, cannot be
    decrypted.

    The keys are read again when they are needed: a rotation takes effect without a restart.
    """

    def __init__(self, keys: KeySource) -> None:
        self._source = keys
        self._ciphers: dict[bytes, AESGCM] = {}
        self._current = b""
        self._read_keys()

    def encrypt_credentials(
        self, credentials: Mapping[str, Any], *, project_id: UUID, provider_id: UUID, version: int = 1
    ) -> bytes:
        """Encrypt credentials as JSON; ``version`` counts the credentials of this provider."""
        plaintext = json.dumps(dict(credentials)).encode()
        return self.encrypt(plaintext, project_id=project_id, provider_id=provider_id, version=version)

    def encrypt(self, plaintext: bytes, *, project_id: UUID, provider_id: UUID, version: int = 1) -> bytes:
        """Encrypt ``plaintext`` for one version of one provider's credentials.

        Raises:
            SluiceError: the keys cannot be read.
        """
        return self.seal(plaintext, _bound_to(project_id, provider_id, version))

    def decrypt(self, ciphertext: bytes, *, project_id: UUID, provider_id: UUID, version: int) -> bytes:
        """Decrypt the result of :meth:`encrypt` for the same project, provider and version.

        Raises:
            SluiceError: its key is not configured, it was encrypted for another row or version, or it was changed.
        """
        bound = _bound_to(project_id, provider_id, version)
        return self.unseal(ciphertext, bound, noun=f"the credentials of provider {provider_id}")

    def seal(self, plaintext: bytes, bound: bytes) -> bytes:
        """Encrypt ``plaintext``; ``bound`` identifies field, row and version, and is authenticated with it.

        Raises:
            SluiceError: the keys cannot be read.
        """
        self._read_keys()
        nonce = os.urandom(_NONCE)
        return _FORMAT + self._current + nonce + self._ciphers[self._current].encrypt(nonce, plaintext, bound)

    def unseal(self, ciphertext: bytes, bound: bytes, *, noun: str) -> bytes:
        """Decrypt the result of :meth:`seal` for the same ``bound``; ``noun``: the subject of an error's text.

        Raises:
            SluiceError: its key is not configured, it was encrypted for another row or version, or it was changed.
        """
        cipher = self._cipher_of(ciphertext)
        if cipher is None:
            raise SluiceError(f"{noun} were encrypted with a key that is not configured")
        nonce, body = ciphertext[_HEAD : _HEAD + _NONCE], ciphertext[_HEAD + _NONCE :]
        try:
            return cipher.decrypt(nonce, body, bound)
        except (InvalidTag, ValueError):  # ValueError: too short to hold a nonce
            raise SluiceError(f"{noun} cannot be decrypted: they were changed") from None

    def is_current(self, ciphertext: bytes) -> bool:
        """Whether the value was encrypted with the key that encrypts now."""
        return ciphertext[:_HEAD] == _FORMAT + self._current

    def _cipher_of(self, ciphertext: bytes) -> AESGCM | None:
        if ciphertext[:1] != _FORMAT:
            return None
        key_id = ciphertext[1:_HEAD]
        if key_id not in self._ciphers:
            self._read_keys()
        return self._ciphers.get(key_id)

    def _read_keys(self) -> None:
        keys = self._source()
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self._current = key_id(keys[0])


def key_id(key: bytes) -> bytes:
    """The 4 bytes in an encrypted value that name its key."""
    return hashlib.sha256(b"sluice key id" + key).digest()[:_KEY_ID]


def _bound_to(project_id: UUID, provider_id: UUID, version: int) -> bytes:
    return b"sluice provider credentials" + project_id.bytes + provider_id.bytes + version.to_bytes(8, "big")
