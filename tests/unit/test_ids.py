"""Ids sort by time, and their public form can be decoded."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model import ids
from tests.examples import NOON, an_id

HEX = "0192f0c1a5b27d3e8f4a5b6c7d8e9f01"
UUIDS = st.uuids(version=None)
MILLISECONDS = st.integers(min_value=0, max_value=(1 << 48) - 1)


@given(MILLISECONDS, MILLISECONDS)
def test_ids_sort_by_time(one, other):
    earlier, later = sorted([one, other])

    created = ids.uuid7(earlier), ids.uuid7(later)

    assert earlier == later or created[0] < created[1]


@given(MILLISECONDS)
def test_an_id_is_a_uuid_of_version_7(when):
    created = ids.uuid7(when)

    assert (created.version, created.variant, created.int >> 80) == (7, UUID(int=0x8 << 60).variant, when)


def test_ids_of_one_millisecond_differ():
    created = {ids.uuid7(1_000) for _ in range(1_000)}

    assert len(created) == 1_000


def test_an_id_contains_its_creation_time():
    assert ids.created_at_of(an_id(NOON)) == NOON


def test_a_related_id_has_the_same_millisecond():
    message = ids.uuid7()

    related = ids.uuid7_like(message)

    low, high = ids.millisecond_range(message)
    assert low <= related <= high
    assert related != message


@given(MILLISECONDS)
def test_the_range_of_a_millisecond_ends_before_the_next_one(when):
    low, high = ids.millisecond_range(ids.uuid7(when))

    assert (low.int, high.int + 1) == (when << 80, (when + 1) << 80)


@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC)))
def test_the_minimum_id_of_a_time_separates_earlier_ids_from_later_ones(time):
    time = time.replace(microsecond=time.microsecond // 1000 * 1000)

    minimum = ids.min_id_at(time)

    assert an_id(time - timedelta(milliseconds=1)) < minimum <= an_id(time)


@given(UUIDS)
def test_the_public_form_decodes_to_the_id(identifier):
    assert ids.decode_id("msg", ids.encode_id("msg", identifier)) == identifier


@given(UUIDS, UUIDS)
def test_public_forms_sort_like_their_ids(one, other):
    encoded = [ids.encode_id("msg", one), ids.encode_id("msg", other)]

    assert (encoded[0] < encoded[1]) == (one < other)


@given(UUIDS)
def test_a_plain_uuid_is_accepted_too(identifier):
    assert ids.decode_id("msg", str(identifier)) == identifier


@pytest.mark.parametrize(
    "text",
    [
        "",
        "msg",
        "msg_",
        "_" + "0" * 26,
        "prv_" + "0" * 26,
        "msg_" + "0" * 25,
        "msg_" + "0" * 27,
        "msg_" + "o" * 26,
        "msg_" + "z" * 26,  # 130 bits
        "MSG_" + "0" * 26,
        "msg_" + "\u0660" * 26,  # digits, but Arabic ones
        "msg_" + "0" * 25 + "\x00",
        "not-an-id",
        "\ud800",
    ],
)
def test_a_text_that_is_no_id_is_refused(text):
    with pytest.raises(ids.InvalidIdError):
        ids.decode_id("msg", text)


@given(st.text())
def test_decoding_any_text_returns_an_id_or_raises_one_error(text):
    try:
        found = ids.decode_id("msg", text)
    except ids.InvalidIdError:
        return

    assert isinstance(found, UUID)


@given(UUIDS, st.integers(min_value=0, max_value=32_767))
def test_a_reference_decodes_to_its_attempt(delivery_id, number):
    assert ids.parse_attempt_reference(ids.attempt_reference(delivery_id, number)) == (delivery_id, number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "att_",
        f"att_{HEX}",
        f"att_{HEX}_",
        f"att_{HEX}_-1",
        f"att_{HEX}_1_2",
        f"att_{HEX}_100000",
        f"att_{HEX}_\u0661",
        f"msg_{HEX}_1",
        f"att_{'g' * 32}_1",
    ],
)
def test_a_text_that_is_no_reference_is_refused(text):
    with pytest.raises(ids.InvalidIdError):
        ids.parse_attempt_reference(text)


@given(st.text())
def test_parsing_any_text_returns_an_attempt_or_raises_one_error(text):
    try:
        _, number = ids.parse_attempt_reference(text)
    except ids.InvalidIdError:
        return

    assert 0 <= number < 100_000
