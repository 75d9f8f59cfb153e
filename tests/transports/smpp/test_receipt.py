"""Receipts in the forms that SMSCs really send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.transports.smpp.pdu import Address, MessageKind, ShortMessage, Tag
from sluice.transports.smpp.receipt import MessageIdFormat, MessageState, Receipt, comparable_id, parse_receipt

PLAIN = "id:0A1B2C3D sub:001 dlvrd:001 submit date:2601020304 done date:2601020305 stat:DELIVRD err:000 text:Hello you"
LAGOS = timezone(timedelta(hours=1))


def delivered(content: bytes | str, tlvs: tuple[tuple[int, bytes], ...] = (), **fields: Any) -> ShortMessage:
    octets = content.encode("latin-1") if isinstance(content, str) else content
    return ShortMessage(
        source=Address(1, 1, "2348012345678"),
        destination=Address(5, 0, "ACME"),
        **{"short_message": octets, "esm_class": MessageKind.RECEIPT, "tlvs": tlvs, **fields},
    )


def parse(content: bytes | str, **more: Any) -> Receipt:
    return parse_receipt(delivered(content, **more))


def test_the_text_form_of_the_specification():
    assert parse_receipt(delivered(PLAIN), zone=LAGOS) == Receipt(
        message_id="0A1B2C3D",
        state=MessageState.DELIVERED,
        stat="DELIVRD",
        err="000",
        submitted_at=datetime(2026, 1, 2, 3, 4, tzinfo=LAGOS),
        done_at=datetime(2026, 1, 2, 3, 5, tzinfo=LAGOS),
        text="Hello you",
        network_error=None,
        failure_reason=None,
    )


@pytest.mark.parametrize(
    ("stat", "state"),
    [
        ("ENROUTE", MessageState.ENROUTE),
        ("DELIVRD", MessageState.DELIVERED),
        ("delivrd", MessageState.DELIVERED),
        ("EXPIRED", MessageState.EXPIRED),
        ("DELETED", MessageState.DELETED),
        ("UNDELIV", MessageState.UNDELIVERABLE),
        ("ACCEPTD", MessageState.ACCEPTED),
        ("UNKNOWN", MessageState.UNKNOWN),
        ("REJECTD", MessageState.REJECTED),
        ("FAILED", MessageState.REJECTED),
        ("BUFFERED", None),
    ],
)
def test_states(stat: str, state: MessageState | None):
    receipt = parse(f"id:1 stat:{stat} err:000")

    assert (receipt.state, receipt.stat) == (state, stat.upper())


@pytest.mark.parametrize("err", ["0A1", "1234", "E-17", "000", "69"])
def test_an_error_code_is_text(err: str):
    assert parse(f"id:1 stat:UNDELIV err:{err} text:x").err == err


@pytest.mark.parametrize(
    ("written", "date"),
    [
        ("2601020304", datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        ("260102030405", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("202601020304", datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        ("20260102030405", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2601020304Z", datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        ("2601020304+0100", datetime(2026, 1, 2, 3, 4, tzinfo=LAGOS)),
        ("260102030405+01:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=LAGOS)),
        ("260102030405-03", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-3)))),
        ("260102030405004+", datetime(2026, 1, 2, 3, 4, 5, tzinfo=LAGOS)),
        ("260102030405022-", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-5.5)))),
        ("0000000000", None),
        ("2613320304", None),
        ("2601020304+9900", None),
        ("260102030405099+", None),
        ("26010203", None),
        ("NULL", None),
        ("٢٦٠١٠٢٠٣٠٤", None),
    ],
)
def test_dates(written: str, date: datetime | None):
    receipt = parse(f"id:1 submit date:2601020304 done date:{written} stat:DELIVRD".encode("utf-16-be"), data_coding=8)

    assert receipt.done_at == date
    assert (receipt.done_at and receipt.done_at.utcoffset()) == (date and date.utcoffset())
    assert receipt.submitted_at == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def test_keys_inside_the_text_are_not_read():
    receipt = parse("id:7 stat:UNDELIV Text:id:8 stat:DELIVRD err:001 text:more")

    assert (receipt.message_id, receipt.stat, receipt.err) == ("7", "UNDELIV", None)
    assert receipt.text == "id:8 stat:DELIVRD err:001 text:more"


def test_any_order_any_case_and_missing_keys():
    receipt = parse("STAT:REJECTD ID:abc-1 Done Date:2601020304")

    assert (receipt.message_id, receipt.state) == ("abc-1", MessageState.REJECTED)
    assert receipt.done_at is not None
    assert (receipt.err, receipt.submitted_at, receipt.text) == (None, None, None)


def test_a_key_is_not_found_inside_another_word():
    assert parse("paid:99 substat:DELIVRD").message_id is None
    assert parse("paid:99 substat:DELIVRD").stat is None


def test_an_empty_value_does_not_take_the_next_key():
    assert parse("id: sub:001 stat:DELIVRD").message_id is None


def test_the_underscore_of_an_id_stays_one():
    assert parse("id:a_b@c stat:DELIVRD").message_id == "a_b@c"


@pytest.mark.parametrize("content", [b"", b"\0\x01\xff", "Your code is 12", "text:", "id:"])
def test_odd_content_has_no_facts(content: bytes | str):
    receipt = parse(content)

    assert (receipt.message_id, receipt.state, receipt.err, receipt.done_at) == (None, None, None, None)


def test_tlvs_win_over_the_text():
    receipt = parse(
        "id:123 stat:DELIVRD err:000",
        tlvs=(
            (Tag.RECEIPTED_MESSAGE_ID, b"7B\0"),
            (Tag.MESSAGE_STATE, b"\x05"),
            (Tag.NETWORK_ERROR_CODE, b"\x03\x00\x1b"),
            (Tag.DELIVERY_FAILURE_REASON, b"\x02"),
            (0x1400, b"of a vendor"),
        ),
    )

    assert (receipt.message_id, receipt.state, receipt.stat) == ("7B", MessageState.UNDELIVERABLE, "DELIVRD")
    assert (receipt.network_error, receipt.failure_reason) == ((3, 27), 2)


def test_tlvs_alone_are_a_receipt():
    receipt = parse(b"", tlvs=((Tag.RECEIPTED_MESSAGE_ID, b"7B"), (Tag.MESSAGE_STATE, b"\x02")))

    assert (receipt.message_id, receipt.state) == ("7B", MessageState.DELIVERED)


@pytest.mark.parametrize("value", [b"", b"\x63", b"\x00\x02"])
def test_a_malformed_state_leaves_that_of_the_text(value: bytes):
    assert parse("id:1 stat:EXPIRED", tlvs=((Tag.MESSAGE_STATE, value),)).state is MessageState.EXPIRED


def test_a_receipt_in_message_payload_and_after_a_header():
    payload = parse(b"", tlvs=((Tag.MESSAGE_PAYLOAD, PLAIN.encode()),))
    after_header = parse(b"\x05\x00\x03\x01\x01\x01" + PLAIN.encode(), esm_class=0x44)

    assert payload == after_header == parse(PLAIN)


@given(st.text(max_size=300), st.lists(st.tuples(st.sampled_from(Tag), st.binary(max_size=5)), max_size=4).map(tuple))
def test_no_content_raises(text: str, tlvs: tuple[tuple[int, bytes], ...]):
    octets = text.encode("utf-16-be", "surrogatepass")[:254]
    receipt = parse(octets, tlvs=tlvs, data_coding=8)

    assert receipt.message_id is None or receipt.message_id


@given(st.text(st.sampled_from("id:stat err0123456789+-ZdonesubmitdateTEXT _"), max_size=120))
def test_no_arrangement_of_keys_raises(text: str):
    receipt = parse(text)

    assert receipt.err is None or " " not in receipt.err


@pytest.mark.parametrize(
    ("form", "in_response", "in_receipt"),
    [
        (MessageIdFormat.AS_IS, "0a1b2c3d", "A1B2C3D"),
        (MessageIdFormat.AS_IS, "550e8400-e29b-41d4-a716-446655440000", "550E8400-E29B-41D4-A716-446655440000"),
        (MessageIdFormat.AS_IS, "0", "000"),
        (MessageIdFormat.HEX_THEN_DECIMAL, "0A1B2C3D", "169552957"),
        (MessageIdFormat.HEX_THEN_DECIMAL, "a1b2c3d", "0169552957"),
        (MessageIdFormat.DECIMAL_THEN_HEX, "169552957", "0a1b2c3d"),
        (MessageIdFormat.DECIMAL_THEN_HEX, "0000169552957", "A1B2C3D"),
        (MessageIdFormat.HEX_THEN_DECIMAL, "zz-1", "ZZ-1"),
        (MessageIdFormat.DECIMAL_THEN_HEX, "zz-1", "ZZ-1"),
        (MessageIdFormat.HEX_THEN_DECIMAL, "9" * 5000, "9" * 5000),
    ],
)
def test_ids_of_response_and_receipt_compare(form: MessageIdFormat, in_response: str, in_receipt: str):
    assert comparable_id(in_response, form, of_receipt=False) == comparable_id(in_receipt, form, of_receipt=True)


@given(st.integers(0, 2**64))
def test_numbers_compare_in_both_bases(number: int):
    hexadecimal, decimal = f"{number:08x}", f"{number:012}"

    assert comparable_id(hexadecimal, MessageIdFormat.HEX_THEN_DECIMAL, of_receipt=False) == comparable_id(
        decimal, MessageIdFormat.HEX_THEN_DECIMAL, of_receipt=True
    )
    assert comparable_id(decimal, MessageIdFormat.DECIMAL_THEN_HEX, of_receipt=False) == comparable_id(
        hexadecimal, MessageIdFormat.DECIMAL_THEN_HEX, of_receipt=True
    )
