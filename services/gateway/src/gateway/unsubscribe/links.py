"""Links with which the recipient of a mail unsubscribes: the token is encrypted, so that it says nothing to others."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sluice.store.cipher import KeySource

PATH = "/unsubscribe"
MAX_TOKEN = 1200  # characters
_UUID, _NONCE = 16, 12  # bytes


class Subscription(NamedTuple):
    """Whom a link unsubscribes: the recipient of a delivery, from the mails of a project."""

    project_id: UUID
    delivery_id: UUID
    address: str
    sandbox: bool


class UnsubscribeLinks:
    """Makes and reads the links of one installation.

    The keys are derived from the encryption keys of the installation, one for each project, so that random nonces stay
    below GCM's limit. A link works as long as its key is configured, and needs no row of the message.
    """

    def __init__(self, keys: KeySource, *, public_url: str | None) -> None:
        self._source = keys
        self._keys = keys()
        self._base = None if public_url is None else f"{public_url.rstrip('/')}{PATH}/"

    @property
    def available(self) -> bool:
        """Whether the installation has a public address, to which links can point."""
        return self._base is not None

    def url(self, subscription: Subscription) -> str:
        """The link; another one each time. Only when :attr:`available`."""
        project = subscription.project_id.bytes
        nonce = os.urandom(_NONCE)
        text = bytes([subscription.sandbox]) + subscription.delivery_id.bytes + subscription.address.encode()
        token = project + nonce + _cipher(self._keys[0], project).encrypt(nonce, text, None)
        return f"{self._base}{base64.urlsafe_b64encode(token).decode().rstrip('=')}"

    def read(self, token: str) -> Subscription | None:
        """The subscription in the token of a link; None for any other text."""
        if len(token) > MAX_TOKEN:
            return None
        try:
            content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        found = self._decrypt(content)
        if found is None:
            self._keys = self._source()  # they may have been rotated
            found = self._decrypt(content)
        return found

    def _decrypt(self, content: bytes) -> Subscription | None:
        project, nonce, body = content[:_UUID], content[_UUID : _UUID + _NONCE], content[_UUID + _NONCE :]
        if len(nonce) < _NONCE:
            return None
        for key in self._keys:
            try:
                text = _cipher(key, project).decrypt(nonce, body, None)
            except InvalidTag:
                continue
            address = text[1 + _UUID :].decode()
            return Subscription(UUID(bytes=project), UUID(bytes=text[1 : 1 + _UUID]), address, bool(text[0]))
        return None


@lru_cache(maxsize=1024)
def _cipher(key: bytes, project: bytes) -> AESGCM:
    return AESGCM(hashlib.sha256(b"sluice unsubscribe link" + project + key).digest())
