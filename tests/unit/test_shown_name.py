"""The name of a project in an invitation: short, in quotes, and no link."""

import pytest

from gateway.members.shown_name import shown_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Web shop", '"Web shop"'),
        ("Müller & Söhne GmbH", '"Müller & Söhne GmbH"'),
        ("Shop no. 7", '"Shop no. 7"'),
        ("a" * 40, f'"{"a" * 40}"'),
        ("a" * 41, f'"{"a" * 39}…"'),
        ("You won! Claim at https://evil.example/x now", '"You won! Claim at now"'),
        ("HTTP://EVIL.EXAMPLE", "a project"),
        ("evil.example", "a project"),
        ("www.evil.example prize", '"prize"'),
        ("prize at evil。example or evil．example", '"prize at or"'),
        ("call me@evil.example", '"call"'),
        ("tel:+14155550100 now", '"now"'),
        ("ev\u200bil\u2060.example", "a project"),
        ("a\u202eb", '"ab"'),
        ("shop”: your account is locked, call “us", '"shop: your account is locked, call us"'),
        ("shop\u2028\u2029 two   lines", '"shop two lines"'),
        ("\u200b", "a project"),
    ],
)
def test_a_name_is_shown_as_a_name_only(name, shown):
    assert shown_name(name) == shown
