"""The command line shows text of other people without giving it to the terminal as commands."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_cli.send import format_timeline
from sluice_cli.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;PWNED\x07\x1b[31m", r"\x1b]0;PWNED\x07\x1b[31m"),
        ("ada\x9b2J@example.com", r"ada\x9b2J@example.com"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\r\nb\tc", r"a\x0d\x0ab\x09c"),
        ("\U000e0041", r"\U000e0041"),
        ("Grüße 日本 \U0001f600", "Grüße 日本 \U0001f600"),
    ],
)
def test_finding_20_controls_are_shown_as_escapes(text, shown):
    assert printable(text) == shown


def test_lines_of_a_content_stay_lines():
    assert printable("a\nb\x1b", multiline=True) == "a\nb\\x1b"


@given(st.text())
def test_nothing_that_is_shown_controls_a_terminal(text):
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in printable(text))


def test_a_timeline_escapes_what_a_sender_and_a_provider_wrote():
    event = {"created_at": "2026-11-28T10:00:00.000Z", "type": "sent", "attempt": 1, "provider": {"name": "a\x1b[2J"}}
    message = {"id": "msg_1", "status": "SENT", "channel": "telegram", "to": ["\x9b1"], "events": [event]}
    event["detail"] = "\u202edetail"

    shown = format_timeline(message)

    assert shown.count("\n") == 1
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
