"""Dead letters: any record can be published as one, and the broker accepts it."""

import base64
import json
from dataclasses import dataclass

import pytest

from sluice.bus.dead_letters import encode_dead_letter, publish_dead_letter
from sluice.bus.topics import Topic
from tests.bus.bus import read_all
from tests.examples import NOON

LARGE = 900_000  # bytes; in base64 more than a broker accepts


@dataclass
class BadRecord:
    """An unreadable record."""

    value: bytes | None = b"{]"
    key: bytes | None = b"key"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = "send.requests"
    partition: int = 3
    offset: int = 17
    timestamp: int = 1_790_000_000_000


@pytest.fixture
async def dead_letters(make_topic):
    return await make_topic(name=Topic.DEAD_LETTERS.value)


def letter_of(record, reason="no JSON"):
    return json.loads(encode_dead_letter(record, reason, at=NOON))


def test_a_dead_letter_has_coordinates_and_reason():
    letter = letter_of(BadRecord())

    assert (letter["topic"], letter["partition"], letter["offset"]) == ("send.requests", 3, 17)
    assert (letter["timestamp"], letter["project_id"]) == (1_790_000_000_000, None)
    assert (letter["kind"], letter["reason"], letter["at"]) == ("invalid_record", "no JSON", NOON.isoformat())


def test_a_dead_letter_has_the_bytes_of_the_record():
    letter = letter_of(BadRecord(b"\x00\xff", b"\xfe"))

    assert (base64.b64decode(letter["value"]), base64.b64decode(letter["key"])) == (b"\x00\xff", b"\xfe")
    assert not letter["truncated"]


@pytest.mark.parametrize("name", ["x-sendpipe-key", "X-SendPipe-Key", "Authorization"])
def test_a_dead_letter_contains_no_api_key(name):
    letter = letter_of(BadRecord(headers=((name, b"canary"), ("plain", b"text"))))

    assert letter["headers"] == {name: "***", "plain": "text"}


@pytest.mark.parametrize(
    "record",
    [
        BadRecord(b"x" * LARGE),
        BadRecord(key=b"x" * LARGE),
        BadRecord(headers=(("name", b"\x00" * LARGE),)),
        BadRecord(headers=(("x" * LARGE, b""),)),
        BadRecord(headers=tuple((f"name {number}", b"x") for number in range(50_000))),
    ],
    ids=["value", "key", "header", "name of a header", "headers"],
)
async def test_a_record_of_any_size_can_be_dead_lettered(kafka_bootstrap, publisher, dead_letters, record):
    assert await publish_dead_letter(publisher, record, "too much", at=NOON)

    (found,) = await read_all(kafka_bootstrap, dead_letters, 1)
    assert json.loads(found.value)["offset"] == record.offset


@pytest.mark.parametrize(
    "record",
    [
        BadRecord(None),
        BadRecord(key=None),
        BadRecord(headers=(("name", None),)),
        BadRecord(headers=(("name", b"\xff"),)),
    ],
)
async def test_a_record_without_value_key_or_header_text_can_be_dead_lettered(publisher, dead_letters, record):
    assert await publish_dead_letter(publisher, record, "too little", at=NOON)


async def test_a_record_with_a_long_reason_can_be_dead_lettered(publisher, dead_letters):
    assert await publish_dead_letter(publisher, BadRecord(), "x" * LARGE, at=NOON)
