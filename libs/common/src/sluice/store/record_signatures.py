"""Signatures of Kafka records: a producer proves that it has an API key without sending the key."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

from sluice.store.api_keys import ApiKey, key_prefix
from sluice.store.ingest import IDEMPOTENCY_TTL

KEY_ID_HEADER = "x-sendpipe-key-id"
TIMESTAMP_HEADER = "x-sendpipe-timestamp"
SIGNATURE_HEADER = "x-sendpipe-signature"
IDEMPOTENCY_HEADER = "idempotency-key"

MAX_AGE = IDEMPOTENCY_TTL
"""A copy of a signed record creates no second message: its idempotency key is valid for as long as its signature."""
MAX_AHEAD = timedelta(minutes=5)


class InvalidRecordSignatureError(Exception):
    """The record is not signed with the key that it names, or too long ago."""


def sign_record(api_key: str, body: bytes, *, idempotency_key: str, now: datetime) -> dict[str, str]:
    """The headers of a record that is signed with ``api_key``.

    The signature is ``v1,`` and the base64 of HMAC-SHA-256 over ``key id.timestamp.idempotency key.body``. The key of
    the HMAC is the SHA-256 of the API key, the key id are its characters 9 to 20, the timestamp is in seconds.
    """
    key_id, timestamp = key_prefix(api_key), str(int(now.timestamp()))
    signature = _signature(hashlib.sha256(api_key.encode()).digest(), key_id, timestamp, idempotency_key, body)
    return {
        KEY_ID_HEADER: key_id,
        TIMESTAMP_HEADER: timestamp,
        IDEMPOTENCY_HEADER: idempotency_key,
        SIGNATURE_HEADER: signature,
    }


def verify_record(headers: Mapping[str, str | None], body: bytes, key: ApiKey, *, now: datetime) -> None:
    """Return when the record is signed with ``key``.

    Raises:
        InvalidRecordSignatureError: it is not, a header is missing, or the timestamp is too far from ``now``.
    """
    timestamp, idempotency_key = headers.get(TIMESTAMP_HEADER), headers.get(IDEMPOTENCY_HEADER)
    if not timestamp or not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 12:
        raise InvalidRecordSignatureError(f"the header {TIMESTAMP_HEADER} is not a number of seconds")
    if not idempotency_key:
        raise InvalidRecordSignatureError(f"a signed record needs the header {IDEMPOTENCY_HEADER}")
    age = now.timestamp() - int(timestamp)
    if not -MAX_AHEAD.total_seconds() <= age < MAX_AGE.total_seconds():
        raise InvalidRecordSignatureError(f"the header {TIMESTAMP_HEADER} is too far from now")
    expected = _signature(key.key_hash, key.key_prefix, timestamp, idempotency_key, body)
    if not hmac.compare_digest(expected.encode(), (headers.get(SIGNATURE_HEADER) or "").encode("utf-8", "replace")):
        raise InvalidRecordSignatureError("the signature does not match")


def _signature(key_hash: bytes, key_id: str, timestamp: str, idempotency_key: str, body: bytes) -> str:
    signed = f"{key_id}.{timestamp}.{idempotency_key}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key_hash, signed, hashlib.sha256)).decode("ascii")
