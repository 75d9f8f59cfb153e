"""Signature Version 4 as far as a fake provider can check it: form, time and signed headers, not the secret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sluice.runtime.clock import utc_now
from sluice_simulator.dialect import FakeRequest

MAX_SKEW = timedelta(minutes=15)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([a-z0-9-]+)/([a-z]+)/aws4_request, SignedHeaders=([a-z0-9;-]+), "
    r"Signature=[0-9a-f]{64}"
)


@dataclass(frozen=True, slots=True)
class Signer:
    """The access key that signed a request, and the region that it was signed for."""

    access_key_id: str
    region: str


def read_signature(request: FakeRequest, service: str) -> Signer | str:
    """Who signed the request, or the code of AWS's error."""
    authorization = request.headers.get(b"authorization", b"").decode("latin-1")
    if not authorization:
        return "MissingAuthenticationToken"
    found = _AUTHORIZATION.fullmatch(authorization)
    stamp = request.headers.get(b"x-amz-date", b"").decode("latin-1")
    if found is None or not re.fullmatch(r"\d{8}T\d{6}Z", stamp):
        return "IncompleteSignature"
    key, date, region, signed_service, names = found.groups()
    signed = set(names.split(";"))
    needed = {"host", "x-amz-date"} | ({"x-amz-security-token"} & {name.decode() for name in request.headers})
    covered = needed <= signed and all(name.encode() in request.headers for name in signed)
    if not covered or not stamp.startswith(date) or signed_service != service:
        return "SignatureDoesNotMatch"
    at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return Signer(key, region) if abs(utc_now() - at) <= MAX_SKEW else "RequestExpired"
