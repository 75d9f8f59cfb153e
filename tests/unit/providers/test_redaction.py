"""What a provider says is stored and shown: no address, number or secret in it."""

from __future__ import annotations

import pytest

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


def test_a_very_short_secret_does_not_eat_the_text() -> None:
    assert redact("a bad password", secrets=["a", "pw"]) == "a bad password"


def test_the_text_is_cut() -> None:
    assert len(redact("x" * 100_000)) == 300
