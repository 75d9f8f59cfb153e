"""Credentials at rest, and the text of API keys."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.runtime.errors import SluiceError
from sluice.store.api_keys import ApiKey, generate_key, parse_key_prefix
from sluice.store.cipher import CredentialCipher
from tests.examples import OTHER_PROJECT, PROJECT, PROVIDER, an_id

KEY, OTHER_KEY = bytes(32), bytes([1] * 32)
PLAINTEXT = b'{"api_key": "canary-secret"}'


def a_sealed_value():
    return CredentialCipher(KEY).encrypt(PLAINTEXT, project_id=PROJECT, provider_id=PROVIDER)


def opened(encrypted, key=KEY, project_id=PROJECT, provider_id=PROVIDER):
    return CredentialCipher(key).decrypt(encrypted, project_id=project_id, provider_id=provider_id)


@given(st.binary(max_size=4_000))
def test_what_was_sealed_opens(plaintext):
    encrypted = CredentialCipher(KEY).encrypt(plaintext, project_id=PROJECT, provider_id=PROVIDER)

    assert opened(encrypted) == plaintext


def test_a_sealed_value_shows_nothing():
    assert b"canary" not in a_sealed_value()


def test_no_value_is_sealed_twice_alike():
    assert a_sealed_value() != a_sealed_value()


def test_a_value_copied_to_another_provider_does_not_open():
    with pytest.raises(SluiceError, match="do not open"):
        opened(a_sealed_value(), provider_id=an_id())


def test_a_value_copied_to_another_project_does_not_open():
    with pytest.raises(SluiceError, match="do not open"):
        opened(a_sealed_value(), project_id=OTHER_PROJECT)


def test_a_value_of_another_key_does_not_open():
    with pytest.raises(SluiceError, match="another key"):
        opened(a_sealed_value(), key=OTHER_KEY)


SIZE = len(a_sealed_value())


@pytest.mark.parametrize("position", range(SIZE))
def test_a_value_with_one_flipped_bit_does_not_open(position):
    changed = bytearray(a_sealed_value())
    changed[position] ^= 1

    with pytest.raises(SluiceError):
        opened(bytes(changed))


@pytest.mark.parametrize("length", range(SIZE))
def test_a_value_that_was_cut_off_does_not_open(length):
    with pytest.raises(SluiceError):
        opened(a_sealed_value()[:length])


@pytest.mark.parametrize("sandbox", [True, False])
def test_a_new_key_is_well_formed(sandbox):
    key, lookup = generate_key(is_test=sandbox)

    assert key.startswith("sp_test_" if sandbox else "sp_live_")
    assert parse_key_prefix(key) == lookup


def test_keys_differ():
    assert len({generate_key(is_test=False) for _ in range(1_000)}) == 1_000


KEY_TEXT, _ = generate_key(is_test=False)


@pytest.mark.parametrize("position", range(len(KEY_TEXT)))
def test_a_mistyped_key_is_seen_without_asking_anybody(position):
    other = "b" if KEY_TEXT[position] != "b" else "c"

    assert parse_key_prefix(KEY_TEXT[:position] + other + KEY_TEXT[position + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "sp_live_", KEY_TEXT[:-1], KEY_TEXT + "a", KEY_TEXT.upper(), " " + KEY_TEXT, KEY_TEXT[:-1] + "é"]
)
def test_what_is_no_key_has_no_lookup(text):
    assert parse_key_prefix(text) is None


@given(st.text())
def test_any_text_is_a_key_or_none(text):
    assert parse_key_prefix(text) is None


def test_a_live_key_is_no_test_key():
    assert parse_key_prefix("sp_test_" + KEY_TEXT[8:]) is None


def test_a_key_admits_only_its_own_text():
    key = ApiKey(an_id(), PROJECT, "shop", "lookup", hashlib.sha256(KEY_TEXT.encode()).digest(), is_test=False)

    assert (key.matches(KEY_TEXT), key.matches(generate_key(is_test=False)[0])) == (True, False)


def test_a_key_record_does_not_hold_the_key():
    key = ApiKey(an_id(), PROJECT, "shop", "lookup", hashlib.sha256(KEY_TEXT.encode()).digest(), is_test=False)

    assert KEY_TEXT not in repr(key)
