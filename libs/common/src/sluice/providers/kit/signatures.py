"""Webhook signatures. Every comparison takes the same time whether it fits or not."""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pydantic import SecretStr

from sluice.providers.contract import InvalidReceiptSignatureError, WebhookRequest

MIN_SVIX_KEY = 16  # bytes; Standard Webhooks asks for 24 to 64
SVIX_TOLERANCE = timedelta(seconds=300)  # either way; repeats are signed afresh, so an old timestamp is a replay


def require_secret(secret: SecretStr | None) -> str:
    """The secret's value.

    Raises:
        InvalidReceiptSignatureError: none is configured, or a blank one, with which anyone can sign.
    """
    value = "" if secret is None else secret.get_secret_value()
    if not value.strip():
        raise InvalidReceiptSignatureError("no secret is configured, so nothing can be verified")
    return value


def require_match(offered: Iterable[str], expected: Iterable[str]) -> None:
    """Return when one of ``offered`` equals one of ``expected``; no early exit shows which one."""
    pairs = [(_encoded(one), _encoded(other)) for other in expected for one in offered]
    if not sum(hmac.compare_digest(one, other) for one, other in pairs):
        raise InvalidReceiptSignatureError("the signature does not match")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


TOKEN_PARAMETER = "token"  # noqa: S105


def verify_url_token(request: WebhookRequest, token: SecretStr | None) -> None:
    """Return when the URL's query has this token, once: the proof of origin where the provider signs nothing.

    It covers neither the body nor the time, so it says only that the sender knows the address.
    """
    expected = require_secret(token)
    query = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
    offered = [value for name, value in query if name == TOKEN_PARAMETER]
    if len(offered) != 1:
        raise InvalidReceiptSignatureError("the address has no token, or several")
    require_match(offered, [expected])


def with_url_token(url: str, token: SecretStr) -> str:
    """The address that :func:`verify_url_token` accepts."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{TOKEN_PARAMETER}={token.get_secret_value()}"


def token_sample(url: str, credentials: Any, at: datetime) -> WebhookRequest:
    """``Package.sample`` of a package whose receipts have the token ``webhook_token`` in their URL."""
    require_secret(credentials.webhook_token)
    return json_sample(with_url_token(url, credentials.webhook_token), at)


def json_sample(url: str, at: datetime, body: bytes = b"{}", **headers: str) -> WebhookRequest:
    """A webhook request with JSON; ``headers``: with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return WebhookRequest("POST", url, {"content-type": "application/json", **named}, body, at)


def verify_svix(request: WebhookRequest, secret: SecretStr | None) -> str:
    """The event's id, once the Svix signature over id, timestamp and raw body matches and is fresh.

    ``webhook-…`` headers are the same thing in the Standard Webhooks spelling.
    """
    key = require_secret(secret)
    if len(key.removeprefix("whsec_")) * 3 < MIN_SVIX_KEY * 4:  # base64
        raise InvalidReceiptSignatureError("the configured webhook secret is too short")
    event_id, timestamp, signatures = (_svix_header(request, name) for name in ("id", "timestamp", "signature"))
    require_fresh(timestamp, request.received_at, SVIX_TOLERANCE)
    offered = [entry for entry in signatures.split(" ") if entry.startswith("v1,")]
    require_match(offered, [sign_svix(key, event_id, timestamp, request.body)])
    return event_id


def sign_svix(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    """The ``v1`` entry of a Svix signature header. ``secret``: ``whsec_`` and base64."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise InvalidReceiptSignatureError("the configured webhook secret is not base64") from None
    signed = b".".join((_encoded(event_id), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, sha256)).decode("ascii")


def svix_sample(url: str, credentials: Any, at: datetime) -> WebhookRequest:
    """``Package.sample`` of a package whose receipts have a Svix signature under ``webhook_secret``."""
    event_id, timestamp, body = f"msg_{secrets.token_hex(12)}", str(int(at.timestamp())), b"{}"
    signature = sign_svix(require_secret(credentials.webhook_secret), event_id, timestamp, body)
    return json_sample(url, at, body, svix_id=event_id, svix_timestamp=timestamp, svix_signature=signature)


def verify_hmac_sha256(body: bytes, secret: SecretStr | None, offered: str) -> None:
    """Return when ``offered`` is the HMAC-SHA256 of the raw body in lower-case hexadecimal digits."""
    key = require_secret(secret).encode()
    require_match([offered], [hmac.digest(key, body, sha256).hex()])


def _svix_header(request: WebhookRequest, name: str) -> str:
    value = request.headers.get(f"svix-{name}") or request.headers.get(f"webhook-{name}")
    if not value:
        raise InvalidReceiptSignatureError(f"the header for the {name} is missing")
    return value


CLOCK_SKEW = timedelta(minutes=5)  # how far in the future a signature may lie


def require_fresh(timestamp: str, received_at: datetime, lifetime: timedelta) -> None:
    """Return when ``timestamp`` (whole seconds since the epoch) is at most ``lifetime`` old.

    Raises:
        InvalidReceiptSignatureError: it is older, more than CLOCK_SKEW in the future, or no number.
    """
    if not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise InvalidReceiptSignatureError("the timestamp is not a number")
    age = received_at.timestamp() - int(timestamp)
    if not -CLOCK_SKEW.total_seconds() <= age <= lifetime.total_seconds():
        raise InvalidReceiptSignatureError("the timestamp is too far from now")


def decode_base64(text: str) -> bytes:
    """The content of base64 in its one canonical form.

    Raises:
        InvalidReceiptSignatureError: the text is anything else.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        content = b""
    if not content or base64.b64encode(content).decode("ascii") != text:
        raise InvalidReceiptSignatureError("the signature is not base64")
    return content


@lru_cache(maxsize=1024)
def load_p256_key(text: str) -> ec.EllipticCurvePublicKey:
    """The public key (base64 of a DER SubjectPublicKeyInfo on the curve P-256).

    Raises:
        ValueError: the text is anything else.
    """
    key = load_der_public_key(base64.b64decode(text, validate=True))
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a public key on the curve P-256")
    return key


def verify_p256(public_key: str | None, signature: str, signed: bytes) -> None:
    """Return when ``signature`` (base64 of DER) is the key's over the SHA-256 of ``signed``."""
    if public_key is None:
        raise InvalidReceiptSignatureError("no public key is configured, so nothing can be verified")
    try:
        load_p256_key(public_key).verify(decode_base64(signature), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise InvalidReceiptSignatureError("the signature does not match") from None
