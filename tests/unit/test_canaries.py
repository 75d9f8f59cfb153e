"""The search for canaries finds each encoding that it is to find."""

import base64
import json
from urllib.parse import quote

import pytest

from tests.canaries import Canaries

ENCODINGS = {
    "plain": lambda text: text,
    "json": json.dumps,
    "hexadecimal": lambda text: text.encode().hex(),
    "upper case hexadecimal": lambda text: text.encode().hex().upper(),
    "percent": quote,
    "every octet in percent": lambda text: "".join(f"%{octet:02X}" for octet in text.encode()),
    **{
        f"base64 after {n} octets": lambda text, n=n: base64.b64encode(
            b"u:ser:"[:n] + text.encode() + b" more"
        ).decode()
        for n in range(6)
    },
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(b"\xff\xfe" + text.encode()).decode(),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_an_encoded_canary_is_found(encode):
    canaries = Canaries()
    value = canaries("provider-x.apiKey")

    assert canaries.search(f"before {encode(value)} after".encode()) == ["provider-x.apiKey"]


def test_other_text_is_no_canary():
    canaries = Canaries()
    canaries("provider-x.apiKey")

    assert canaries.search(b"canary000123456789abcdef0123456789abcdef " + base64.b64encode(bytes(300))) == []
