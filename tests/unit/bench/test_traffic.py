"""Requests are bytes with two gaps: their length is right, and a fake provider can read their number."""

import json

import pytest

from bench.traffic import Offer, Shape, Stream, key_of, number_of
from gateway.messages import v1_schemas


def request(shape: Shape, number: int) -> tuple[str, bytes]:
    whole = shape.template().encode("latin-1") % {b"n": b"%09d" % number, b"key": b"sp_live_x"}
    head, _, body = whole.partition(b"\r\n\r\n")
    return head.decode(), body


@pytest.mark.parametrize("channel", ["email", "sms"])
@pytest.mark.parametrize("delivery_class", ["standard", "urgent"])
@pytest.mark.parametrize("number", [0, 123_456_789])
def test_the_content_length_is_the_length_of_the_body(channel, delivery_class, number):
    head, body = request(Shape(7, channel, delivery_class), number)

    assert f"content-length: {len(body)}" in head.lower()
    assert f"idempotency-key: {key_of(7, number)}" in head


@pytest.mark.parametrize("channel", ["email", "sms"])
def test_the_gateway_accepts_the_body_and_the_sink_reads_its_number(channel):
    _, body = request(Shape(7, channel, "urgent"), 42)

    read, _ = v1_schemas.parse(body)

    assert read.delivery_class == "urgent"
    assert number_of(read.to[0]) == (7, 42)


def test_the_body_is_as_large_as_the_rules_say():
    _, body = request(Shape(7), 42)

    assert 220 <= len(body) <= 340


@pytest.mark.parametrize("recipient", ["", "you@example.com", "r1@load.example", "+15005550006", "rxn1@load.example"])
def test_other_recipients_have_no_number(recipient):
    assert number_of(recipient) is None


def test_an_offer_goes_through_the_pipe_unchanged():
    stream = Stream("all", "POST /", 5.0, "poisson", ("a", "b"), begin=1.0, end=2.0)
    offer = Offer("127.0.0.1", 80, 1.5, 10.0, (stream,), "/tmp/x", index=1, of=2, window=3)

    line = offer.line()

    assert "\n" not in line
    assert json.loads(line)["window"] == 3
    assert Offer.read(line) == offer
