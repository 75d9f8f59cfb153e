"""The signature of Mailgun's webhooks: over a timestamp and a token, in the body."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from pydantic import SecretStr

from sluice.providers.contract import InvalidReceiptSignatureError, WebhookRequest
from sluice.providers.kit.responses import dump_json, text_of
from sluice.providers.kit.signatures import json_sample, require_fresh, require_match, require_secret

RECEIPT_LIFETIME = timedelta(hours=9)  # Mailgun repeats for 8 hours, perhaps under the first timestamp


def verify(signature: Mapping[str, Any], request: WebhookRequest, key: SecretStr | None) -> str:
    """The token, once the signature of the account or of its parent account matches and is fresh."""
    expected_key = require_secret(key)
    timestamp, token = text_of(signature.get("timestamp")) or "", text_of(signature.get("token")) or ""
    require_fresh(timestamp, request.received_at, RECEIPT_LIFETIME)
    if not re.fullmatch(r"[0-9A-Za-z]{20,100}", token):
        raise InvalidReceiptSignatureError("the token is not one of Mailgun's")
    offered = [text_of(signature.get(name)) or "" for name in ("signature", "parent-signature")]
    require_match(offered, [_digest(expected_key, timestamp, token)])
    return token


def sample(url: str, credentials: Any, at: datetime) -> WebhookRequest:
    """``Package.sample``: a webhook about nothing, under a new token."""
    timestamp, token = str(int(at.timestamp())), secrets.token_hex(25)
    digest = _digest(require_secret(credentials.webhook_signing_key), timestamp, token)
    signature = {"timestamp": timestamp, "token": token, "signature": digest}
    return json_sample(url, at, dump_json({"signature": signature, "event-data": {}}))


def _digest(key: str, timestamp: str, token: str) -> str:
    return hmac.digest(key.encode(), f"{timestamp}{token}".encode(), sha256).hex()
