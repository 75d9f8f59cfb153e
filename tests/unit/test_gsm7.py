"""The number of segments of a text: that of the SMPP encoder, which cuts it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model.gsm7 import segment_count
from sluice.transports.smpp.encoding import segment

_TEXTS = st.text(st.sampled_from("a€[é"), max_size=500) | st.text(st.sampled_from("aя😀"), max_size=300) | st.text()


@given(_TEXTS.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text)))
def test_the_count_is_that_of_the_parts(text):
    assert segment_count(text) == len(segment(text, reference=1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("€" * 153, 3),  # 76 in a part: no character is cut
        ("я" * 70, 1),
        ("я" * 71, 2),
        ("я" * 135, 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 67, 3),  # 33 in a part
    ],
)
def test_texts_at_the_limits(text, expected):
    assert segment_count(text) == expected
