"""The codec against known octets, against an independent codec, and there and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import smpp34
from hypothesis import given
from hypothesis import strategies as st

from sluice.transports.smpp.pdu import (
    HEADER,
    Address,
    Command,
    MessageKind,
    Pdu,
    PduError,
    ShortMessage,
    Tag,
    body_length,
    decode,
    encode_bind,
    response_message_id,
    response_text,
)

BIND = "0000002100000009000000000000000161636d6500736563726574000034000000"
SUBMIT = (
    "0000004700000004000000000000000200050041434d450001013233343830313233343536373800000000003030303030303030313030"
    "303030305200010000000548656c6c6f"
)
SUBMIT_RESP = "00000019800000040000000000000002304131423243334400"
THROTTLED_RESP = "00000010800000040000005800000002"
DELIVER = (
    "000000ad0000000500000000000000070001013233343830313233343536373800050041434d45000400000000000000006969643a3041"
    "314232433344207375623a30303120646c7672643a303031207375626d697420646174653a3236303130323033303420646f6e65206461"
    "74653a3236303130323033303520737461743a44454c49565244206572723a30303020746578743a48656c6c6f001e0009304131423243"
    "3344000427000102"
)

ASCII = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
OCTET = st.integers(0, 255)
ADDRESSES = st.builds(Address, OCTET, OCTET, st.text(ASCII, max_size=20))
MESSAGES = st.builds(
    ShortMessage,
    source=ADDRESSES,
    destination=ADDRESSES,
    short_message=st.binary(max_size=254),
    data_coding=OCTET,
    esm_class=OCTET,
    registered_delivery=OCTET,
    service_type=st.text(ASCII, max_size=5),
    protocol_id=OCTET,
    priority=OCTET,
    schedule_delivery_time=st.text(ASCII, max_size=16),
    validity_period=st.text(ASCII, max_size=16),
    replace_if_present=OCTET,
    default_message_id=OCTET,
    tlvs=st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=4).map(tuple),
)


def parse(text: str) -> Pdu:
    octets = bytes.fromhex(text)
    header, body = octets[: HEADER.size], octets[HEADER.size :]
    assert body_length(header) == len(body)
    return decode(header, body)


def test_a_bind_has_the_known_octets():
    body = encode_bind(system_id="acme", password="secret")

    assert Pdu(Command.BIND_TRANSCEIVER, 0, 1, body).encode().hex() == BIND


HELLO = ShortMessage(
    source=Address.of("ACME"),
    destination=Address.of("+2348012345678"),
    short_message=b"Hello",
    registered_delivery=1,
    validity_period="000000001000000R",
)


def test_a_submit_sm_has_the_known_octets():
    assert Pdu(Command.SUBMIT_SM, 0, 2, HELLO.encode()).encode().hex() == SUBMIT


def test_a_submit_sm_resp_is_read():
    response = parse(SUBMIT_RESP)

    assert (response.command, response.status, response.sequence) == (0x80000004, 0, 2)
    assert response_message_id(response.body) == "0A1B2C3D"
    assert response_text(response.body) == ""


def test_an_error_response_without_a_body_is_read():
    response = parse(THROTTLED_RESP)

    assert (response.status, response_message_id(response.body), response_text(response.body)) == (0x58, "", "")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\0\x00\x1d\x00\x05spam\0", "spam"),
        (b"\0\x00\x1d\x00\x04spam", "spam"),  # without the NUL
        (b"\0\x14\x00\x00\x01x\x00\x1d\x00\x05spam\0", "spam"),  # after a TLV of a vendor
        (b"\0\x00\x1d\x00\x50spam", ""),  # it ends too early
        (b"\0\x00", ""),
    ],
)
def test_the_words_of_an_error_response(body: bytes, text: str):
    assert response_text(body) == text


def test_a_receipt_is_read():
    pdu = parse(DELIVER)
    message = ShortMessage.decode(pdu.body)

    assert (pdu.command, pdu.sequence) == (Command.DELIVER_SM, 7)
    assert message.kind == MessageKind.RECEIPT
    assert message.source == Address(1, 1, "2348012345678")
    assert message.destination == Address(5, 0, "ACME")
    assert message.user_data.startswith(b"id:0A1B2C3D sub:001")
    assert message.tlv(Tag.RECEIPTED_MESSAGE_ID) == b"0A1B2C3D\0"
    assert message.tlv(Tag.MESSAGE_STATE) == b"\x02"
    assert message.tlv(Tag.NETWORK_ERROR_CODE) is None


@given(MESSAGES)
def test_every_message_survives_encoding(message: ShortMessage):
    assert ShortMessage.decode(message.encode()) == message


@given(MESSAGES)
def test_an_independent_codec_reads_the_same_fields(message: ShortMessage):
    other = smpp34.decode(Pdu(Command.SUBMIT_SM, 0, 1, message.encode()).encode())

    assert isinstance(other, smpp34.SubmitSm)
    assert Address(other.source_addr_ton, other.source_addr_npi, other.source_addr) == message.source
    assert Address(other.dest_addr_ton, other.dest_addr_npi, other.destination_addr) == message.destination
    assert other.short_message == message.short_message
    assert other.data_coding == message.data_coding
    assert other.esm_class == message.esm_class
    assert other.registered_delivery == message.registered_delivery
    assert other.service_type == message.service_type
    assert other.validity_period == message.validity_period
    assert tuple((tlv.tag, tlv.value) for tlv in other.tlvs) == message.tlvs


@given(MESSAGES, st.data())
def test_a_body_that_ends_too_early_is_refused(message: ShortMessage, data: st.DataObject):
    fixed = len(message.encode()) - sum(4 + len(value) for _, value in message.tlvs)
    end = data.draw(st.integers(0, fixed - 1))

    with pytest.raises(PduError):
        ShortMessage.decode(message.encode()[:end])


@given(st.binary(max_size=200))
def test_any_octets_are_a_body_or_an_error(body: bytes):
    try:
        message = ShortMessage.decode(body)
    except PduError:
        return
    assert len(message.short_message) <= len(body)


@pytest.mark.parametrize("length", [0, 15, 65_537, 0xFFFFFFFF])
def test_a_length_that_no_pdu_has_is_refused(length: int):
    with pytest.raises(PduError):
        body_length(HEADER.pack(length, 0x15, 0, 1))


@pytest.mark.parametrize(
    "fields",
    [
        {"short_message": bytes(255)},
        {"source": Address(5, 0, "A" * 21)},
        {"source": Address(5, 0, "Ärzte")},
        {"destination": Address(1, 1, "23480\0")},
        {"service_type": "ABCDEF"},
        {"tlvs": ((Tag.MESSAGE_PAYLOAD, bytes(65_536)),)},
        {"tlvs": ((Tag.MESSAGE_PAYLOAD, bytes(65_500)),)},
    ],
)
def test_a_value_that_does_not_fit_is_refused_without_quoting_it(fields: dict[str, Any]):
    with pytest.raises(PduError) as caught:
        replace(HELLO, **fields).encode()

    assert "AAA" not in str(caught.value)
    assert "23480" not in str(caught.value)


def test_a_long_password_is_allowed_and_a_long_system_id_is_not():
    assert b"123456789012" in encode_bind(system_id="acme", password="123456789012")
    with pytest.raises(PduError):
        encode_bind(system_id="A" * 16, password="x")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("+2348012345678", Address(1, 1, "2348012345678")),
        ("2348012345678", Address(1, 1, "2348012345678")),
        ("32665", Address(3, 1, "32665")),
        ("ACME", Address(5, 0, "ACME")),
        ("4YOU", Address(5, 0, "4YOU")),
    ],
)
def test_type_of_number_and_numbering_plan(text: str, address: Address):
    assert Address.of(text) == address
