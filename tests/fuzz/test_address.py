"""Damaged addresses: refused without being repeated, or one mailbox without characters that end a header."""

from sluice.model.address import InvalidAddressError, parse_address
from tests.fuzz.fuzzing import damaged_text, fuzz

ADDRESSES = [
    "ada@example.com",
    '"Ada, Countess" <ada.l+tag@example.co.uk>',
    "Grüße <jürgen@müller.example>",
    '"quoted \\" local"@example.com',
    "a@xn--mller-kva.example",
    "नमस्ते@डाटामेल.भारत",
]


@fuzz(text=damaged_text(ADDRESSES))
def test_an_address_is_one_mailbox_or_refused(text):
    try:
        address = parse_address(text[:520])
    except InvalidAddressError as error:
        str(error).encode()
        return

    for part in address:
        assert not any(character in part for character in "\r\n\x00")
    assert address.domain.isascii()
    assert address.domain == address.domain.lower()
    assert parse_address(address.bare).bare == address.bare
    address.bare.encode()
