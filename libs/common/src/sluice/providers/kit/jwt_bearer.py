"""Access tokens from a private key: OAuth 2.0 with a signed JWT as the grant, RFC 7523."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

import httpx
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, SecretStr

from sluice.model.outcome import AuthFailed, ProviderFault
from sluice.providers.contract import Token
from sluice.providers.kit.requests import post_form
from sluice.providers.kit.responses import describe, json_object, seconds, text_of

LIFETIME = timedelta(hours=1)  # of an assertion, the longest that is allowed; of a token that names none

_KEY_SIZES = range(2048, 8193)  # bits
_ACCESS_TOKEN = re.compile(r"[!-~]{1,8192}")
_TRANSIENT = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})


@lru_cache(maxsize=1024)
def load_rsa_key(pem: str) -> RSAPrivateKey:
    """The key in PEM, also with ``\\n`` written out, as environment variables have it. ValueError when it is none.

    OpenSSL's own validation takes 70 ms, because it tests whether the factors are primes. Here the numbers have to
    agree with one another: a key that is false in spite of that makes signatures that the provider refuses.
    """
    try:
        text = pem.replace("\\n", "\n").encode()
        key = load_pem_private_key(text, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise ValueError("not a private key in PEM without a password") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size not in _KEY_SIZES:
        raise ValueError("not an RSA key of 2048 to 8192 bits")
    numbers, public = key.private_numbers(), key.public_key().public_numbers()
    p, q, d = numbers.p, numbers.q, numbers.d
    agree = p > 2 and q > 2 and p * q == public.n and numbers.iqmp * q % p == 1
    agree = agree and d * public.e % (p - 1) == 1 and d * public.e % (q - 1) == 1
    if not agree or (numbers.dmp1, numbers.dmq1) != (d % (p - 1), d % (q - 1)):
        raise ValueError("the numbers of the RSA key do not agree")
    return key


def _rsa_key(secret: SecretStr) -> SecretStr:
    load_rsa_key(secret.get_secret_value())
    return secret


RsaKey = Annotated[SecretStr, AfterValidator(_rsa_key)]
"""An RSA private key in PEM; a wrong one is refused when it is configured, not by every exchange."""


def post_assertion(
    url: httpx.URL, claims: Mapping[str, Any], key: str, *, key_id: str | None, now: datetime
) -> httpx.Request:
    """The request for an access token, with ``claims`` and their times in a JWT signed by RS256."""
    issued = int(now.timestamp())
    header = {"alg": "RS256", "typ": "JWT", **({"kid": key_id} if key_id else {})}
    times = {"iat": issued, "exp": issued + int(LIFETIME.total_seconds())}
    signed = b".".join(_encode(orjson.dumps(part)) for part in (header, {**claims, **times}))
    signature = load_rsa_key(key).sign(signed, PKCS1v15(), SHA256())
    assertion = b".".join((signed, _encode(signature))).decode("ascii")
    return post_form(url, {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion})


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def read_token(response: httpx.Response, now: datetime) -> Token | AuthFailed | ProviderFault:
    """The token of an exchange. Its refusal is about the credentials, unless it says that it is temporary."""
    body = json_object(response.content)
    token = body.get("access_token")
    if response.status_code == 200 and isinstance(token, str) and _ACCESS_TOKEN.fullmatch(token):
        lifetime = seconds(body.get("expires_in"))
        return Token(SecretStr(token), now + (LIFETIME if lifetime is None else min(lifetime, LIFETIME)))
    error, description = text_of(body.get("error")), text_of(body.get("error_description"))
    detail = describe(response, error, description)
    if {error, description} & _TRANSIENT or response.status_code not in (200, 400, 401, 403, 404):
        return ProviderFault(detail)
    return AuthFailed(detail)
