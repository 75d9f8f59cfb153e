"""The kit's token exchange: keys that cannot sign are refused at once, and every answer of a token endpoint is read."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sluice.model.outcome import AuthFailed, ProviderFault
from sluice.providers.contract import Token
from sluice.providers.kit.jwt_bearer import load_rsa_key, post_assertion, read_token
from tests.unit.providers.examples import NOON

KEY = rsa.generate_private_key(65537, 2048)


def pem_of(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, encryption: Any = None) -> str:
    encoded: bytes = key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())
    return encoded.decode()


PEM = pem_of(KEY)


@pytest.mark.parametrize(
    "pem",
    [PEM, PEM.replace("\n", "\\n"), pem_of(KEY, PrivateFormat.TraditionalOpenSSL), f"a comment\n{PEM}", PEM.strip()],
    ids=count(),  # the keys are other ones in each process, which all have to collect the same tests
)
def test_a_key_is_read_in_every_form(pem: str) -> None:
    assert load_rsa_key(pem).private_numbers() == KEY.private_numbers()


def altered(**changes: int) -> str:
    """A key whose numbers do not belong together; in PKCS#1, which holds each of them."""
    numbers = KEY.private_numbers()
    public = numbers.public_numbers
    values = [0, public.n, public.e, numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp]
    names = ("version", "n", "e", "d", "p", "q", "dmp1", "dmq1", "iqmp")
    content = b"".join(_integer(changes.get(name, value)) for name, value in zip(names, values, strict=True))
    encoded = base64.encodebytes(b"\x30" + _length(content) + content).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{encoded}-----END RSA PRIVATE KEY-----\n"


def _integer(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + _length(content) + content


def _length(content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([size])
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 + len(digits)]) + digits


def test_the_altered_keys_are_well_formed() -> None:
    assert load_rsa_key(altered()).private_numbers() == KEY.private_numbers()


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "x",
        PEM[:300],
        PEM.replace("A", "B"),
        pem_of(KEY, encryption=BestAvailableEncryption(b"x")),
        pem_of(ec.generate_private_key(ec.SECP256R1())),
        pem_of(rsa.generate_private_key(65537, 1024)),
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        *(altered(**{name: KEY.private_numbers().p + 2}) for name in ("d", "p", "q", "dmp1", "dmq1", "iqmp")),
        altered(n=KEY.private_numbers().public_numbers.n + 2),
        altered(p=1),
        altered(q=0),
        "half a character \ud800",
    ],
    ids=count(),
)
def test_a_key_that_cannot_sign_is_refused(pem: str) -> None:
    with pytest.raises(ValueError, match="key") as refused:
        load_rsa_key(pem)

    assert "MII" not in str(refused.value)


def part(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


@pytest.mark.parametrize(("key_id", "header"), [(None, {}), ("k1", {"kid": "k1"})])
def test_the_assertion_is_a_signed_jwt(key_id: str | None, header: dict[str, str]) -> None:
    url = httpx.URL("https://tokens.example.test/token")

    request = post_assertion(url, {"iss": "me@x", "scope": "a b"}, PEM, key_id=key_id, now=NOON)

    fields = dict(httpx.QueryParams(request.content.decode()))
    stated, claims, signature = fields["assertion"].split(".")
    issued = int(NOON.timestamp())
    assert (request.method, request.url) == ("POST", url)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert fields["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert part(stated) == {"alg": "RS256", "typ": "JWT", **header}
    assert part(claims) == {"iss": "me@x", "scope": "a b", "iat": issued, "exp": issued + 3600}
    assert "=" not in fields["assertion"]
    signed = base64.urlsafe_b64decode(signature + "==")
    KEY.public_key().verify(signed, f"{stated}.{claims}".encode(), padding.PKCS1v15(), SHA256())


GRANTED = {"access_token": "ya29.abc", "expires_in": 3599, "token_type": "Bearer"}


@pytest.mark.parametrize(
    ("changes", "lifetime"),
    [
        ({}, 3599),
        ({"expires_in": "3599"}, 3599),
        ({"expires_in": 60}, 60),
        ({"expires_in": 10**12}, 3600),
        ({"expires_in": None}, 3600),
        ({"expires_in": "soon"}, 3600),
    ],
)
def test_a_token_has_its_expiry(changes: dict[str, Any], lifetime: int) -> None:
    found = read_token(httpx.Response(200, json=GRANTED | changes), NOON)

    assert isinstance(found, Token)
    assert found.value.get_secret_value() == "ya29.abc"
    assert found.expires_at == NOON + timedelta(seconds=lifetime)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, AuthFailed),
        (401, {"error": "invalid_client"}, AuthFailed),
        (401, {"error": "unauthorized_client"}, AuthFailed),
        (403, {"error": "access_denied"}, AuthFailed),
        (404, {}, AuthFailed),
        *((200, GRANTED | {"access_token": odd}, AuthFailed) for odd in (None, "", 7, "a b", "a\r\nb", "x" * 9000)),
        (200, {}, AuthFailed),
        *((status, {}, ProviderFault) for status in (301, 408, 429, 500, 502, 503, 504)),
        (400, {"error": "internal_failure"}, ProviderFault),
        (400, {"error": "server_error"}, ProviderFault),
        (400, {"error": "x", "error_description": "temporarily_unavailable"}, ProviderFault),
    ],
)
def test_a_refused_exchange_is_about_the_account_or_temporary(status: int, body: Any, outcome: type) -> None:
    found = read_token(httpx.Response(status, json=body), NOON)

    assert type(found) is outcome
    assert not isinstance(found, Token)
    assert found.detail.startswith(str(status))


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"\xff"])
def test_an_answer_that_is_no_json_is_no_token(content: bytes) -> None:
    assert isinstance(read_token(httpx.Response(200, content=content), NOON), AuthFailed)
