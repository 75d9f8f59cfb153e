"""Alphabets and segmentation: known octets, limits, and cuts that never split a character."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.transports.smpp.encoding import (
    MAX_SEGMENTS,
    UCS2,
    Alphabet,
    EncodingError,
    LongMessageMode,
    Segment,
    decode_text,
    segment,
    split_header,
)
from sluice.transports.smpp.pdu import UDHI, Tag

# 3GPP TS 23.038, the basic table in code order without the escape, and the extension table.
BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = "\f^{}\\[~]|€"
GSM_TEXT = st.text(st.sampled_from(BASIC + EXTENSION), max_size=700)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
MODES = st.sampled_from(LongMessageMode)


def content(each: Segment) -> bytes:
    """The octets of a segment that are text."""
    payload = dict(each.tlvs).get(Tag.MESSAGE_PAYLOAD, b"")
    text = split_header(each.short_message)[1] if each.esm_class & UDHI else each.short_message
    return text + payload


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("@", "00"),
        ("Hello", "48656c6c6f"),
        ("é_Δ", "051110"),
        ("ÄÖÑÜ§", "5b5c5d5e5f"),
        ("äöñüà", "7b7c7d7e7f"),
        ("¡¿¤", "406024"),
        ("É\n\r", "1f0a0d"),
        ("€", "1b65"),
        ("[]{}", "1b3c1b3e1b281b29"),
        ("\\^~|\f", "1b2f1b141b3d1b401b0a"),
    ],
)
def test_gsm7_has_the_known_octets(text: str, octets: str):
    assert segment(text, reference=1) == [Segment(0, bytes.fromhex(octets))]


def test_the_basic_table_is_complete():
    codes = [code for code in range(128) if code != 0x1B]

    assert b"".join(each.short_message for character in BASIC for each in segment(character, reference=1)) == bytes(
        codes
    )


@pytest.mark.parametrize("text", ["`", "ç", "₦", "\t", "\x1b", "😀", "你好"])
def test_a_character_outside_gsm7_makes_the_text_ucs2(text: str):
    (only,) = segment("a" + text, reference=1)

    assert (only.data_coding, only.short_message) == (UCS2, ("a" + text).encode("utf-16-be"))


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", [0]),
        ("a" * 160, [160]),
        ("a" * 161, [153, 8]),
        ("a" * 306, [153, 153]),
        ("a" * 307, [153, 153, 1]),
        ("€" * 80, [160]),
        ("a" + "€" * 80, [153, 8]),
        ("a" * 152 + "€" * 10, [152, 20]),  # the escape would be the last octet of the first part
        ("ж" * 70, [140]),
        ("ж" * 71, [134, 8]),
        ("ж" * 66 + "😀" + "ж" * 10, [132, 24]),  # the cut at 134 octets would split the surrogate pair
    ],
)
@pytest.mark.parametrize("mode", [LongMessageMode.UDH, LongMessageMode.SAR])
def test_sizes_of_segments(text: str, sizes: list[int], mode: LongMessageMode):
    assert [len(content(each)) for each in segment(text, reference=1, mode=mode)] == sizes


def test_udh_parts_name_reference_total_and_number():
    first, second = segment("a" * 161, reference=0x1234)

    assert (first.esm_class, first.short_message[:6].hex()) == (UDHI, "050003340201")
    assert (second.esm_class, second.short_message[:6].hex()) == (UDHI, "050003340202")
    assert split_header(first.short_message) == (bytes.fromhex("0003340201"), b"a" * 153)


def test_sar_parts_name_reference_total_and_number():
    first, second = segment("a" * 161, reference=0x51234, mode=LongMessageMode.SAR)

    assert first.esm_class == 0
    assert first.tlvs == ((0x020C, b"\x12\x34"), (0x020E, b"\x02"), (0x020F, b"\x01"))
    assert second.tlvs == ((0x020C, b"\x12\x34"), (0x020E, b"\x02"), (0x020F, b"\x02"))


def test_payload_mode_sends_a_long_text_whole_and_a_short_one_as_usual():
    (long,) = segment("ж" * 500, reference=1, mode=LongMessageMode.PAYLOAD)
    (short,) = segment("Hello", reference=1, mode=LongMessageMode.PAYLOAD)

    assert (long.data_coding, long.short_message, long.tlvs) == (
        UCS2,
        b"",
        ((0x0424, ("ж" * 500).encode("utf-16-be")),),
    )
    assert (short.short_message, short.tlvs) == (b"Hello", ())


def test_a_default_alphabet_agreed_as_latin1():
    (only,) = segment("@ç_", reference=1, default=Alphabet.LATIN1)

    assert (only.data_coding, only.short_message) == (0, b"@\xe7_")
    assert [len(content(each)) for each in segment("ç" * 141, reference=1, default=Alphabet.LATIN1)] == [134, 7]
    assert segment("€", reference=1, default=Alphabet.LATIN1)[0].data_coding == UCS2
    assert segment("é", reference=1, default=Alphabet.ASCII)[0].data_coding == UCS2


def test_more_than_255_parts_are_refused():
    assert len(segment("a" * 153 * MAX_SEGMENTS, reference=1)) == MAX_SEGMENTS
    with pytest.raises(EncodingError):
        segment("a" * (153 * MAX_SEGMENTS + 1), reference=1)


@pytest.mark.parametrize("text", ["\ud83d", "a\ude00", "\ude00\ud83d"])
def test_half_a_surrogate_pair_is_refused(text: str):
    with pytest.raises(EncodingError):
        segment(text, reference=1)


@given(GSM_TEXT, st.integers(0, 2**32), MODES)
@example("a" * 152 + "€" * 200, 7, LongMessageMode.UDH)
def test_gsm7_segments_decode_one_by_one_to_the_text(text: str, reference: int, mode: LongMessageMode):
    segments = segment(text, reference=reference, mode=mode)

    assert {each.data_coding for each in segments} == {0}
    assert "".join(str(decode_text(content(each), 0)) for each in segments) == text
    assert all(content(each)[-1:] != b"\x1b" for each in segments)
    assert all(len(each.short_message) <= 160 for each in segments)


@given(ANY_TEXT.map(lambda text: text + "😀"), st.integers(0, 2**32), MODES)
@example("😀" * 300, 7, LongMessageMode.UDH)
def test_ucs2_segments_decode_one_by_one_to_the_text(text: str, reference: int, mode: LongMessageMode):
    segments = segment(text, reference=reference, mode=mode)

    assert {each.data_coding for each in segments} == {UCS2}
    assert "".join(content(each).decode("utf-16-be") for each in segments) == text  # strict: no half pair
    assert "".join(str(decode_text(content(each), UCS2)) for each in segments) == text
    assert all(len(each.short_message) <= 140 for each in segments)


@pytest.mark.parametrize(
    ("octets", "data_coding", "text"),
    [
        (b"\x1bA", 0, "A"),  # an unknown escape shows the basic character
        (b"A\x1b", 0, "A"),  # nothing follows the escape
        (b"\x80", 0, "\ufffd"),
        (b"\xe9", 1, "\ufffd"),
        (b"\xe9", 3, "é"),
        (b"\xd8\x3d", 8, "\ufffd"),
        (b"\x00", 8, "\ufffd"),
        (b"\x01", 4, None),
        (b"\x01", 0xF5, None),
    ],
)
def test_odd_octets_are_decoded_without_an_error(octets: bytes, data_coding: int, text: str | None):
    assert decode_text(octets, data_coding) == text


@given(st.binary(max_size=50), st.integers(0, 255), st.sampled_from(Alphabet))
def test_any_octets_decode(octets: bytes, data_coding: int, default: Alphabet):
    text = decode_text(octets, data_coding, default)

    assert text is None or len(text) <= len(octets)


@pytest.mark.parametrize("octets", [b"", b"\x05", b"\x05\x00\x03\x01\x02"])
def test_a_header_longer_than_the_data_is_content(octets: bytes):
    assert split_header(octets) == (b"", octets)
