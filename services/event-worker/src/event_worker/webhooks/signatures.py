"""The signatures of a request to a webhook endpoint, in both forms of the contract."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from sluice.model.webhook_secret import SECRET_PREFIX


def signature_headers(webhook_id: str, body: bytes, secrets: Sequence[bytes], *, now: datetime) -> dict[str, str]:
    """The headers that authenticate ``body``. ``secrets``: the random bytes, at least one, the newest first.

    ``webhook-signature`` follows Standard Webhooks: HMAC-SHA-256 over id, time and body, one for each secret.
    ``X-SendPipe-Signature`` has room for one: HMAC-SHA-256 over the body, in hex, with the text of the secret as key.
    During a rotation it is that of the oldest valid secret, so that a receiver that has only that one still verifies.
    """
    timestamp = str(int(now.timestamp()))
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    signatures = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    text = SECRET_PREFIX.encode() + base64.b64encode(secrets[-1])
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in signatures),
        "X-SendPipe-Signature": hmac.new(text, body, hashlib.sha256).hexdigest(),
    }
