"""Verification of the webhooks that Sluice sends to its customers (Standard Webhooks)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from sluice.client.errors import SluiceClientError

TOLERANCE = 300.0  # seconds that the time of a webhook may differ from this machine's


class InvalidSignatureError(SluiceClientError):
    """The webhook is not from Sluice, was changed on its way, or is old."""


def verify_webhook(
    headers: Mapping[str, str], body: bytes, secret: str, *, tolerance: float = TOLERANCE, now: float | None = None
) -> dict[str, Any]:
    """The event of a webhook whose signature is right.

    ``body``: the octets as they came, before any parsing. ``secret``: ``whsec_…``, as the API showed it once.
    De-duplicate by the header ``webhook-id``: a webhook may come more than once.

    Raises:
        InvalidSignatureError: a header is missing, the time is off by more than ``tolerance`` seconds, or no signature
            fits.
    """
    named = {name.lower(): value for name, value in headers.items()}
    try:
        identifier, timestamp = named["webhook-id"], named["webhook-timestamp"]
        signatures = named["webhook-signature"].split()
        at = int(timestamp)
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (KeyError, ValueError, binascii.Error):
        raise InvalidSignatureError("a header of the webhook is missing or malformed") from None
    if abs((time.time() if now is None else now) - at) > tolerance:
        raise InvalidSignatureError("the time of the webhook is too far from this machine's")
    signed = f"{identifier}.{timestamp}.".encode() + body
    right = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    if not key or not any(hmac.compare_digest(right.encode(), each.encode()) for each in signatures):
        raise InvalidSignatureError("no signature of the webhook is right")
    event: dict[str, Any] = json.loads(body)
    return event
