"""AWS Signature Version 4 in the Authorization header of a POST.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. The library that has it,
botocore, brings 29 MB of service models into every image and signs requests of its own; the tests compare with it.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote

import httpx
from pydantic import SecretStr

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AwsKey:
    """An access key; ``session_token`` with temporary ones."""

    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None


def sign_v4(
    url: httpx.URL, content: bytes, content_type: str, key: AwsKey, *, service: str, region: str, at: datetime
) -> dict[str, str]:
    """The headers that authenticate the POST of ``content`` to ``url``, which has no query.

    Names are spelled with underscores, as :func:`~sluice.providers.kit.requests.post` takes them. ``at``: in UTC; AWS
    refuses a difference of more than 15 minutes from its own clock.
    """
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    headers = {"content-type": content_type, "host": url.netloc.decode("ascii"), "x-amz-date": stamp}
    if key.session_token is not None:
        headers["x-amz-security-token"] = key.session_token.get_secret_value()
    names = ";".join(headers)  # in alphabetical order
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in headers.items())
    path = quote(url.raw_path.decode("ascii"), safe="/~")
    canonical = f"POST\n{path}\n\n{lines}\n{names}\n{sha256(content).hexdigest()}"
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(_signing_key(key, scope), to_sign.encode(), sha256).hex()
    added = {name.replace("-", "_"): value for name, value in headers.items() if name.startswith("x-amz-")}
    credential = f"{_ALGORITHM} Credential={key.access_key_id}/{scope}"
    return {**added, "authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}


def _signing_key(key: AwsKey, scope: str) -> bytes:
    derived = b"AWS4" + key.secret_access_key.get_secret_value().encode()
    for part in scope.split("/"):
        derived = hmac.digest(derived, part.encode(), sha256)
    return derived
