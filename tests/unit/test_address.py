"""One grammar for addresses in requests, headers and SMTP commands."""

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st

from sluice.model import address
from sluice.model.address import Address, InvalidAddressError, parse_address


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("ada@example.com", Address("", "ada", "example.com")),
        ("Ada <ada@example.com>", Address("Ada", "ada", "example.com")),
        ("<ada@example.com>", Address("", "ada", "example.com")),
        (" Ada  < ada@example.com > ", Address("Ada", "ada", "example.com")),
        ("Shop, Inc. <shop@example.com>", Address("Shop, Inc.", "shop", "example.com")),
        ('"Shop \\"A\\"" <shop@example.com>', Address('Shop "A"', "shop", "example.com")),
        ("Größe <ada@example.com>", Address("Größe", "ada", "example.com")),
        ("a.b+c_d'e@sub-domain.example.com", Address("", "a.b+c_d'e", "sub-domain.example.com")),
        ("Ada@Example.COM", Address("", "Ada", "example.com")),
        ("ABUSE@example.com", Address("", "ABUSE", "example.com")),
        ("ben@bücher.example", Address("", "ben", "xn--bcher-kva.example")),
        ("ben@xn--bcher-kva.example", Address("", "ben", "xn--bcher-kva.example")),
        ("аня@example.org", Address("", "аня", "example.org")),
        ("root@localhost", Address("", "root", "localhost")),
        ("ops@größe.local", Address("", "ops", "xn--gre-6ka8i.local")),
        ("a" * 64 + "@" + "b" * 63 + ".example", Address("", "a" * 64, "b" * 63 + ".example")),
    ],
)
def test_an_address_is_parsed_into_its_parts(text, parsed):
    found = parse_address(text)

    assert (found, found.bare) == (parsed, f"{parsed.local}@{parsed.domain}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "@",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@example..com",
        "ada@example.com.",
        "ada@.example.com",
        "ada@-example.org",
        "ada@exa_mple.org",
        ".ada@example.com",
        "ada.@example.com",
        "a..da@example.com",
        "ada lovelace@example.com",
        '"ada lovelace"@example.com',
        "ada@[127.0.0.1]",
        "ada(comment)@example.com",
        "ada@example.com, eve@example.com",
        "ada@example.com>",
        "Ada <ada@example.com",
        "Ada <eve@example.com> <ada@example.com>",
        "Ada> <ada@example.com>",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com\n",
        "Ada\x00 <ada@example.com>",
        "Ada\x85 <ada@example.com>",
        "Ada\u2028 <ada@example.com>",
        "Ada\ud800 <ada@example.com>",
        "ada\u00a0@example.com",
        "ada\u202e@example.com",
        "ada@exam\u00adple\u3000.com",
        "a" * 65 + "@example.com",
        "ada@" + "b" * 64 + ".example",
        "ada@" + "b." * 126 + "example",
        "x" * 201 + " <ada@example.com>",
    ],
)
def test_a_text_that_is_not_an_address_is_refused_without_repeating_it(text):
    with pytest.raises(InvalidAddressError) as caught:
        parse_address(text)

    assert not text.strip(" @") or text not in str(caught.value)


@pytest.mark.parametrize(("text", "ascii_only"), [("ada@bücher.example", True), ("аня@example.org", False)])
def test_only_a_local_part_that_is_not_ascii_needs_smtputf8(text, ascii_only):
    assert parse_address(text).ascii is ascii_only


@given(st.from_regex(address._PLAIN, fullmatch=True))
def test_the_short_cut_accepts_only_what_the_library_accepts(text):
    local, _, domain = text.rpartition("@")
    if len(local) > 64 or len(domain) > 63:
        return

    found = validate_email(text, check_deliverability=False, globally_deliverable=False, strict=True)

    assert parse_address(text) == Address("", local, found.ascii_domain)


@given(st.text() | st.builds("{}@{}".format, st.text(min_size=1), st.text(min_size=1)))
def test_no_text_becomes_an_address_that_could_end_a_header_or_a_command(text):
    try:
        found = parse_address(text)
    except InvalidAddressError:
        return

    assert not set("\r\n\x00") & set(found.name)
    assert not set(' \r\n\t\x00<>,;:"') & set(found.bare)
    assert found.domain.isascii()
