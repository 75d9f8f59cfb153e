"""Credentials at rest, and the text of API keys."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.runtime.errors import SluiceError
from sluice.store.api_keys import LIVE, PROJECT_API, TEST, ApiKey, generate_key, key_prefix, parse_key_prefix
from sluice.store.cipher import CredentialCipher
from tests.examples import OTHER_PROJECT, PROJECT, PROVIDER, an_id

KEY, OTHER_KEY = bytes(32), bytes([1] * 32)
PLAINTEXT = b'{"api_key": "canary-secret"}'


def an_encrypted_value():
    return CredentialCipher(lambda: [KEY]).encrypt(PLAINTEXT, project_id=PROJECT, provider_id=PROVIDER)


def decrypted(encrypted, key=KEY, project_id=PROJECT, provider_id=PROVIDER, version=1):
    cipher = CredentialCipher(lambda: [key])
    return cipher.decrypt(encrypted, project_id=project_id, provider_id=provider_id, version=version)


@given(st.binary(max_size=4_000))
def test_an_encrypted_value_is_decrypted(plaintext):
    encrypted = CredentialCipher(lambda: [KEY]).encrypt(plaintext, project_id=PROJECT, provider_id=PROVIDER)

    assert decrypted(encrypted) == plaintext


def test_an_encrypted_value_does_not_contain_the_plaintext():
    assert b"canary" not in an_encrypted_value()


def test_two_encryptions_of_a_value_differ():
    assert an_encrypted_value() != an_encrypted_value()


def test_a_value_copied_to_another_provider_is_not_decrypted():
    with pytest.raises(SluiceError, match="cannot be decrypted"):
        decrypted(an_encrypted_value(), provider_id=an_id())


def test_a_value_copied_to_another_project_is_not_decrypted():
    with pytest.raises(SluiceError, match="cannot be decrypted"):
        decrypted(an_encrypted_value(), project_id=OTHER_PROJECT)


def test_a_value_of_another_key_is_not_decrypted():
    with pytest.raises(SluiceError, match="key that is not configured"):
        decrypted(an_encrypted_value(), key=OTHER_KEY)


def test_a_value_of_another_version_is_not_decrypted():
    with pytest.raises(SluiceError, match="cannot be decrypted"):
        decrypted(an_encrypted_value(), version=2)


def test_a_value_of_any_configured_key_is_decrypted_and_the_first_key_encrypts():
    both = CredentialCipher(lambda: [OTHER_KEY, KEY])
    bound = {"project_id": PROJECT, "provider_id": PROVIDER, "version": 1}
    new = both.encrypt(PLAINTEXT, **bound)

    assert both.decrypt(an_encrypted_value(), **bound) == PLAINTEXT
    assert decrypted(new, key=OTHER_KEY) == PLAINTEXT
    assert [both.is_current(value) for value in (an_encrypted_value(), new)] == [False, True]


def test_a_new_key_is_used_without_a_restart():
    keys = [KEY]
    running = CredentialCipher(lambda: list(keys))
    keys.insert(0, OTHER_KEY)

    encrypted = running.encrypt(PLAINTEXT, project_id=PROJECT, provider_id=PROVIDER)

    assert decrypted(encrypted, key=OTHER_KEY) == PLAINTEXT


SIZE = len(an_encrypted_value())


@pytest.mark.parametrize("position", range(SIZE))
def test_a_value_with_one_flipped_bit_is_not_decrypted(position):
    changed = bytearray(an_encrypted_value())
    changed[position] ^= 1

    with pytest.raises(SluiceError):
        decrypted(bytes(changed))


@pytest.mark.parametrize("length", range(SIZE))
def test_a_truncated_value_is_not_decrypted(length):
    with pytest.raises(SluiceError):
        decrypted(an_encrypted_value()[:length])


@pytest.mark.parametrize("head", ["sp_live_", "sp_test_", "mzl_"])
def test_a_new_key_is_well_formed(head):
    key, prefix = generate_key(head)

    assert key.startswith(head)
    assert parse_key_prefix(key) == key_prefix(key) == prefix


def test_keys_differ():
    assert len({generate_key(LIVE) for _ in range(1_000)}) == 1_000


KEY_TEXT, _ = generate_key(LIVE)


@pytest.mark.parametrize("position", range(len(KEY_TEXT)))
def test_a_mistyped_key_is_detected_by_its_checksum(position):
    other = "b" if KEY_TEXT[position] != "b" else "c"

    assert parse_key_prefix(KEY_TEXT[:position] + other + KEY_TEXT[position + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    ["", "sp_live_", KEY_TEXT[:-1], KEY_TEXT + "a", KEY_TEXT.upper(), " " + KEY_TEXT, KEY_TEXT[:-1] + "é"],
    ids=["empty", "prefix", "short", "long", "upper case", "space", "not ascii"],
)
def test_a_text_that_is_no_key_has_no_prefix(text):
    assert parse_key_prefix(text) is None


@given(st.text())
def test_arbitrary_text_is_no_key(text):
    assert parse_key_prefix(text) is None


def test_a_live_key_is_no_test_key():
    assert [parse_key_prefix(head + KEY_TEXT[8:]) for head in (TEST, PROJECT_API)] == [None, None]


def test_a_key_matches_only_its_own_text():
    key = ApiKey(an_id(), PROJECT, "shop", "prefix", hashlib.sha256(KEY_TEXT.encode()).digest(), is_test=False)

    assert (key.matches(KEY_TEXT), key.matches(generate_key(LIVE)[0])) == (True, False)


def test_the_stored_key_does_not_contain_its_text():
    key = ApiKey(an_id(), PROJECT, "shop", "prefix", hashlib.sha256(KEY_TEXT.encode()).digest(), is_test=False)

    assert KEY_TEXT not in repr(key)
