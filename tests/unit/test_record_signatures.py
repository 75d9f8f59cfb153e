"""Signed Kafka records: only the holder of the key makes them, and a copy is no second message."""

import base64
import hashlib
import hmac
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.store.api_keys import LIVE, ApiKey, generate_key
from sluice.store.record_signatures import InvalidRecordSignatureError, sign_record, verify_record
from tests.examples import NOON, PROJECT, an_id

TEXT, PREFIX = generate_key(LIVE)
KEY = ApiKey(an_id(), PROJECT, "shop", PREFIX, hashlib.sha256(TEXT.encode()).digest(), is_test=False)
BODY = b'{"channel":"email"}'


def signed(body=BODY, *, key=TEXT, at=NOON, idempotency_key="order-7"):
    return sign_record(key, body, idempotency_key=idempotency_key, now=at)


@given(st.binary(max_size=500), st.text(min_size=1, max_size=100))
def test_a_signed_record_is_verified(body, idempotency_key):
    verify_record(signed(body, idempotency_key=idempotency_key), body, KEY, now=NOON)


def test_the_signature_follows_the_documented_recipe():
    headers = signed()
    mac = hmac.new(
        hashlib.sha256(TEXT.encode()).digest(),
        f"{TEXT[8:20]}.{headers['x-sendpipe-timestamp']}.order-7.".encode() + BODY,
        hashlib.sha256,
    )

    assert headers["x-sendpipe-key-id"] == TEXT[8:20]
    assert headers["x-sendpipe-signature"] == "v1," + base64.b64encode(mac.digest()).decode()


GOOD = signed()
FORGERIES = {
    "no signature": ({"x-sendpipe-signature": None}, BODY),
    "an empty signature": ({"x-sendpipe-signature": ""}, BODY),
    "only the version": ({"x-sendpipe-signature": "v1,"}, BODY),
    "no version": ({"x-sendpipe-signature": GOOD["x-sendpipe-signature"][3:]}, BODY),
    "another version": ({"x-sendpipe-signature": "v2" + GOOD["x-sendpipe-signature"][2:]}, BODY),
    "another case": ({"x-sendpipe-signature": GOOD["x-sendpipe-signature"].swapcase()}, BODY),
    "not ASCII": ({"x-sendpipe-signature": "v1,\u2603\ud800"}, BODY),
    "truncated": ({"x-sendpipe-signature": GOOD["x-sendpipe-signature"][:-4]}, BODY),
    "another key": (signed(key=generate_key(LIVE)[0]), BODY),
    "another body": ({}, BODY + b" "),
    "no body": ({}, b""),
    "another idempotency key": ({"idempotency-key": "order-8"}, BODY),
    "no idempotency key": ({"idempotency-key": None}, BODY),
    "an empty idempotency key": (signed(idempotency_key=""), BODY),
    "another timestamp": ({"x-sendpipe-timestamp": str(int(NOON.timestamp()) + 1)}, BODY),
    "no timestamp": ({"x-sendpipe-timestamp": None}, BODY),
    "a timestamp in other digits": ({"x-sendpipe-timestamp": "١٢٣"}, BODY),
    "a timestamp with a sign": ({"x-sendpipe-timestamp": "+" + GOOD["x-sendpipe-timestamp"]}, BODY),
    "a fraction": ({"x-sendpipe-timestamp": GOOD["x-sendpipe-timestamp"] + ".0"}, BODY),
    "a huge timestamp": ({"x-sendpipe-timestamp": "9" * 40}, BODY),
    "an old one": (signed(at=NOON - timedelta(hours=24)), BODY),
    "a future one": (signed(at=NOON + timedelta(minutes=6)), BODY),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forged_record_is_refused(case):
    changes, body = FORGERIES[case]

    with pytest.raises(InvalidRecordSignatureError):
        verify_record(GOOD | changes, body, KEY, now=NOON)


@pytest.mark.parametrize("age", [timedelta(minutes=-5), timedelta(0), timedelta(hours=23, minutes=59)])
def test_a_record_may_wait_in_kafka_for_as_long_as_its_idempotency_key_is_valid(age):
    verify_record(signed(at=NOON - age), BODY, KEY, now=NOON)
