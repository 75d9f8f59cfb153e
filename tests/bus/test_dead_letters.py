"""Parking: whatever a record looks like, it can be set aside, and the broker takes it."""

import base64
import json
from dataclasses import dataclass

import pytest

from sluice.bus.dead_letters import encode_dead_letter, publish_dead_letter
from sluice.bus.topics import Topic
from tests.bus.bus import read_all
from tests.examples import NOON

pytestmark = pytest.mark.system

MUCH = 900_000  # bytes; with base64 around them more than a broker takes


@dataclass
class Bad:
    """A record that somebody could not read."""

    value: bytes | None = b"{]"
    key: bytes | None = b"key"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = "send.requests"
    partition: int = 3
    offset: int = 17


@pytest.fixture
async def dead_letters(make_topic):
    return await make_topic(name=Topic.DEAD_LETTERS.value)


def letter_of(record, reason="no JSON"):
    return json.loads(encode_dead_letter(record, reason, at=NOON))


def test_a_dead_letter_says_where_and_why():
    letter = letter_of(Bad())

    assert (letter["topic"], letter["partition"], letter["offset"]) == ("send.requests", 3, 17)
    assert (letter["kind"], letter["reason"], letter["at"]) == ("invalid_record", "no JSON", NOON.isoformat())


def test_a_dead_letter_keeps_the_bytes():
    letter = letter_of(Bad(b"\x00\xff", b"\xfe"))

    assert (base64.b64decode(letter["value"]), base64.b64decode(letter["key"])) == (b"\x00\xff", b"\xfe")
    assert not letter["truncated"]


@pytest.mark.parametrize("name", ["x-sendpipe-key", "X-SendPipe-Key", "Authorization"])
def test_a_dead_letter_shows_no_key(name):
    letter = letter_of(Bad(headers=((name, b"canary"), ("plain", b"text"))))

    assert letter["headers"] == {name: "***", "plain": "text"}


@pytest.mark.parametrize(
    "record",
    [
        Bad(b"x" * MUCH),
        Bad(key=b"x" * MUCH),
        Bad(headers=(("name", b"\x00" * MUCH),)),
        Bad(headers=(("x" * MUCH, b""),)),
        Bad(headers=tuple((f"name {number}", b"x") for number in range(50_000))),
    ],
    ids=["value", "key", "header", "name of a header", "headers"],
)
async def test_a_record_full_of_anything_is_parked(kafka_bootstrap, publisher, dead_letters, record):
    assert await publish_dead_letter(publisher, record, "too much", at=NOON)

    (found,) = await read_all(kafka_bootstrap, dead_letters, 1)
    assert json.loads(found.value)["offset"] == record.offset


@pytest.mark.parametrize(
    "record", [Bad(None), Bad(key=None), Bad(headers=(("name", None),)), Bad(headers=(("name", b"\xff"),))]
)
async def test_a_record_that_lacks_anything_is_parked(publisher, dead_letters, record):
    assert await publish_dead_letter(publisher, record, "too little", at=NOON)


async def test_a_record_with_a_long_fault_is_parked(publisher, dead_letters):
    assert await publish_dead_letter(publisher, Bad(), "x" * MUCH, at=NOON)
