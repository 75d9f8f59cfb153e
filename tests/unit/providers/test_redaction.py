"""What a provider says is stored and shown: no address, number or secret in it."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.providers.kit.redaction import redact


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("550 5.1.1 <ana@example.org>: unknown", "550 5.1.1 <<address>>: unknown"),
        ("The 'To' number +15005550100 is not valid", "The 'To' number <number> is not valid"),
        ("to +44 20 7946 0958, please", "to <number>, please"),
        ("to 4915112345678", "to <number>"),
        ("21211 means 400", "21211 means 400"),
        ("queued as 4F2A99", "queued as 4F2A99"),
        ("two\r\nlines\x1b[31m\u2028end", "two lines [31mend".replace("mend", "m end")),
        ("аня@пример.рф is unknown", "<address> is unknown"),
    ],
)
def test_addresses_numbers_and_controls_are_taken_out(text: str, cleaned: str) -> None:
    assert redact(text) == cleaned


def test_hidden_words_are_taken_out_longest_first() -> None:
    assert redact("key re_12345 and re_123", secrets=["re_123", "re_12345"]) == "key <hidden> and <hidden>"


def test_a_very_short_secret_is_hidden_as_a_word() -> None:
    assert redact("a bad pw, a lap, pwned", secrets=["pw"]) == "a bad <hidden>, a lap, pwned"


SECRETS = ["CANARYpassWORD99", 'pa ss&wörd/+?="<x>', "sp_live_abcdefghijklmnop", "日本語のパスワード"]


def _forms(secret: str) -> dict[str, str]:
    plain = f"\0user@example.org\0{secret}".encode()
    return {
        "plain": secret,
        "AUTH PLAIN": base64.b64encode(plain).decode(),
        "AUTH LOGIN": base64.b64encode(secret.encode()).decode(),
        "Basic": base64.b64encode(f"account:{secret}".encode()).decode(),
        "Basic reversed": base64.b64encode(f"{secret}:x-oauth".encode()).decode(),
        "base64url": base64.urlsafe_b64encode(plain).decode().rstrip("="),
        "query": urlencode({"key": secret}),
        "path": quote(secret),
        "JSON": json.dumps({"password": secret}),
        "HTML": html.escape(secret),
        "hex": secret.encode().hex(),
    }


@pytest.mark.parametrize("secret", SECRETS)
def test_finding_14_every_form_of_a_secret_is_hidden(secret: str) -> None:
    for name, form in _forms(secret).items():
        shown = redact(f"535 5.7.8 bad: {form} (end)", secrets=[secret])

        assert "<hidden>" in shown, name
        assert form not in shown, name
        assert shown.endswith("(end)"), name
        assert secret not in shown, name


@given(st.text(min_size=6, max_size=40), st.binary(max_size=20), st.binary(max_size=20))
def test_finding_14_base64_of_a_secret_within_anything_is_hidden(secret: str, before: bytes, after: bytes) -> None:
    token = base64.b64encode(before + secret.encode() + after).decode()

    assert redact(token, secrets=[secret]) == "<hidden>"


def test_the_text_is_cut() -> None:
    assert len(redact("x" * 100_000)) == 300
