"""One grammar for addresses in requests, headers and SMTP commands."""

import re

import pytest
from email_validator import validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.model import address
from sluice.model.address import Address, InvalidAddressError, format_address, parse_address


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("ada@example.com", Address("", "ada", "example.com")),
        ("Ada <ada@example.com>", Address("Ada", "ada", "example.com")),
        ("<ada@example.com>", Address("", "ada", "example.com")),
        (" Ada  < ada@example.com > ", Address("Ada", "ada", "example.com")),
        ('"Shop, Inc." <shop@example.com>', Address("Shop, Inc.", "shop", "example.com")),
        ("Ada K. (CEO) [x] <ada@example.com>", Address("Ada K. (CEO) [x]", "ada", "example.com")),
        ('Ada "The Countess" King <ada@example.com>', Address("Ada The Countess King", "ada", "example.com")),
        ("👨\u200d👩\u200d👧 ❤\ufe0f <ada@example.com>", Address("👨\u200d👩\u200d👧 ❤\ufe0f", "ada", "example.com")),
        ("نامه\u200cای <ada@example.com>", Address("نامه\u200cای", "ada", "example.com")),
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
        ("ada@EXAMPLE.com", Address("", "ada", "example.com")),
        ("jo\u0308rg@example.com", Address("", "jörg", "example.com")),  # NFC, RFC 6532 3.1
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
        "ada@[127.0.0.1]",
        "ada(comment)@example.com",
        "ada@example.com, eve@example.com",
        "ada@example.com; eve@example.com",
        "Friends: ada@example.com, eve@example.com;",
        "ada@example.com (Ada)",
        "ada＠example.com",
        "ada@10.0.0.1",
        '"ada@example.com',
        '"ada"x@example.com',
        '"a\rb"@example.com',
        '"Ada <ada@example.com>',
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


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("ana@straße.example", "xn--strae-oqa.example"),
        ("ana@βόλος.example", "xn--nxasmm1c.example"),
        ("ana@نامه\u200cای.example", "xn--mgba3gch31f060k.example"),
        ("ana@xn--mgba3gch31f060k.example", "xn--mgba3gch31f060k.example"),
        ("ana@STRASSE.example", "strasse.example"),
        ("ana@XN--STRAE-OQA.example", "xn--strae-oqa.example"),
    ],
)
def test_f6_a_domain_keeps_every_character_that_idna_2008_distinguishes(text, domain):
    assert parse_address(text).domain == domain


def test_f6_a_joiner_where_idna_2008_has_none_is_refused():
    with pytest.raises(InvalidAddressError):
        parse_address("ana@a\u200cb.example")


@pytest.mark.parametrize(
    "text",
    [
        "eva@far.example, Bob <bob@far.example>",
        "Eva, Bob <bob@far.example>",
        "eva@far.example Bob <bob@far.example>",
        "Eva; Bob <bob@far.example>",
        "Friends: Bob <bob@far.example>",
        "<eva@far.example> <bob@far.example>",
        "<eva@far.example>, <bob@far.example>",
    ],
)
def test_f10_a_text_with_more_than_one_address_is_refused(text):
    with pytest.raises(InvalidAddressError, match="one"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *("ana\u200b@far.example", "\u200bana@far.example", "\ufeffana@far.example", "ana\u202egpj@far.example"),
        *("an\u00ada@far.example", "ana\u2060@far.example", "ana\u3164@far.example", "an\u034fa@far.example"),
        *("ana\ufe0f@far.example", "ana\u200d@far.example", "ana\u2800@far.example", '"a\u200bb"@far.example'),
        *("ana@f\u200bar.example", "ana@far\ufeff.example", "ana@f\ufe0far.example", "ana@far.example\u200e"),
        *("A\u202ena <ana@far.example>", "\u200bAna <ana@far.example>", "Ana\u200d <ana@far.example>"),
        *("A\ufe0f\ufe0f <ana@far.example>", "A\U000e0061 <ana@far.example>"),
        *("\u2066Ana\u2069 <ana@far.example>", '"\ufeff" <ana@far.example>'),
    ],
)
def test_f11_an_address_with_an_invisible_character_is_refused(text):
    with pytest.raises(InvalidAddressError, match="invisible"):
        parse_address(text)


@pytest.mark.parametrize("text", ["a@[192.0.2.1]", "a@my_host.example", "a@-far.example", "a[b]@far.example"])
def test_f18_a_domain_that_no_server_can_have_is_refused(text):
    with pytest.raises(InvalidAddressError):
        parse_address(text)


@pytest.mark.parametrize("text", ["a..b.@docomo.example", ".a@far.example"])
def test_u3_dots_beside_each_other_or_at_an_end_are_refused_unless_quoted(text):
    with pytest.raises(InvalidAddressError):
        parse_address(text)
    local, _, domain = text.partition("@")
    assert parse_address(f'"{local}"@{domain}').bare == f'"{local}"@{domain}'


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('"Jane <CEO>" <jane@far.example>', Address("Jane <CEO>", "jane", "far.example")),
        ('"jane@work, home" <jane@far.example>', Address("jane@work, home", "jane", "far.example")),
        ('"ada lovelace"@far.example', Address("", '"ada lovelace"', "far.example")),
        ('Ada <"a<@>,b"@far.example>', Address("Ada", '"a<@>,b"', "far.example")),
        ('"a\\"b"@far.example', Address("", '"a\\"b"', "far.example")),
        ('"ada"@far.example', Address("", "ada", "far.example")),  # quotes that change nothing, RFC 5321 4.1.2
    ],
)
def test_u8_quoted_names_and_local_parts_are_understood(text, parsed):
    assert parse_address(text) == parsed
    assert parse_address(parsed.bare).bare == parsed.bare


def test_u9_an_encoded_word_is_text_because_json_is_no_header():
    assert parse_address("=?utf-8?q?J=C3=B6rg?= <j@far.example>").name == "=?utf-8?q?J=C3=B6rg?="


@given(st.from_regex(address._PLAIN, fullmatch=True))
def test_the_short_cut_accepts_only_what_the_library_accepts(text):
    local, _, domain = text.rpartition("@")
    if len(local) > 64 or len(domain) > 63 or domain.rpartition(".")[2].isdigit():
        return

    found = validate_email(text, check_deliverability=False, globally_deliverable=False, strict=True)

    assert parse_address(text) == Address("", local, found.ascii_domain)


WORDS = st.text(st.sampled_from('ab.@<>,;:"\\ \r\n\x00ß\u200b'), max_size=12)


@given(st.text() | WORDS | st.builds("{}@{}".format, st.text(min_size=1), st.text(min_size=1)))
@example('"a>,<b" <"a>,\\"<b"@x>')
def test_no_text_becomes_an_address_that_could_end_a_header_or_a_command(text):
    try:
        found = parse_address(text)
    except InvalidAddressError:
        return

    assert not set("\r\n\x00") & set(found.name)
    assert not set("\r\n\t\x00") & set(found.bare)
    unquoted = re.sub(r'^"(?:[^"\\]|\\.)*"(?=@)', "", found.bare)
    assert not set(' <>,;:"') & set(unquoted)
    assert found.domain.isascii()
    assert parse_address(found.bare) == found._replace(name="")


@given(st.text(st.sampled_from('ab.@<>,;:"\\ ()[]ß'), max_size=12))
@example('Shop, "the" \\ best')
@example("Your Company Name")
def test_a_name_and_an_address_are_read_as_they_were_written(name):
    name = name.strip()

    assert parse_address(format_address(name, "ada@example.com")) == Address(name, "ada", "example.com")
