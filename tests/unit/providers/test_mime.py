"""Mails are read back by the standard library's parser, which shares no code with our writer."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr, parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.model.address import InvalidAddressError
from sluice.model.characters import has_invisible
from sluice.model.message import Email
from sluice.providers.contract import UnsupportedMessageError
from sluice.providers.kit.mime import write_mail
from tests.unit.providers.examples import NOON, an_attachment, an_email

HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "X-Sluice-Message-Id",
    "Auto-Submitted",
    "MIME-Version",
]


def written(mail: Email, contents: dict[str, bytes] | None = None) -> bytes:
    return write_mail(mail, message_id="msg_1", date=NOON, contents=contents or {})


def read(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, policy=policy.default)


def headers_of(raw: bytes) -> list[str]:
    """Header names by the plainest of rules: lines before the first empty one that do not start with a space."""
    head = raw.split(b"\r\n\r\n", 1)[0]
    return [line.split(b":")[0].decode() for line in head.split(b"\r\n") if not line.startswith(b" ")]


def content_of(part: Any) -> str:
    text: str = part.get_content()
    return text.replace("\r\n", "\n")


def test_text_and_html_are_alternatives_with_the_text_first() -> None:
    mail = read(written(an_email(text="Grüße, 世界\n.\nEnde", html="<p>Grüße</p>")))

    plain, html = mail.iter_parts()

    assert mail.get_content_type() == "multipart/alternative"
    assert (plain.get_content_type(), content_of(plain)) == ("text/plain", "Grüße, 世界\n.\nEnde")
    assert (html.get_content_type(), content_of(html)) == ("text/html", "<p>Grüße</p>")


def test_an_attachment_comes_back_byte_for_byte() -> None:
    content = bytes(range(256)) * 3
    file = an_attachment(content, filename="Übersicht №1.pdf")

    mail = read(written(an_email(attachments=(file,)), {file.sha256: content}))

    (found,) = mail.iter_attachments()
    assert mail.get_content_type() == "multipart/mixed"
    assert found.get_filename() == "Übersicht №1.pdf"
    assert found.get_content_type() == "application/pdf"
    assert found.get_content() == content


def test_a_very_long_attachment_name_comes_back() -> None:
    name = "жж" * 100 + ".pdf"
    file = an_attachment(b"x", filename=name)

    (found,) = read(written(an_email(attachments=(file,)), {file.sha256: b"x"})).iter_attachments()

    assert found.get_filename() == name


@pytest.mark.parametrize("stated", ["message/rfc822", "multipart/mixed", "text/html\r\nX-Evil: 1", "nonsense", ""])
def test_a_type_that_may_not_stand_there_is_refused(stated: str) -> None:
    file = an_attachment(b"x", content_type=stated)

    with pytest.raises(UnsupportedMessageError):
        written(an_email(attachments=(file,)), {file.sha256: b"x"})


@pytest.mark.parametrize(
    ("stated", "kind", "parameters"),
    [
        ("text/csv; charset=utf-8", "text/csv", {"charset": "utf-8"}),
        ('text/csv; charset="utf-8"; header=present', "text/csv", {"charset": "utf-8", "header": "present"}),
        ('application/x; a="b;c=d, \\"e\\""', "application/x", {"a": 'b;c=d, "e"'}),
        ("TEXT/Plain; Charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
    ],
)
def test_f7_the_parameters_of_a_content_type_are_kept(stated: str, kind: str, parameters: dict[str, str]) -> None:
    file = an_attachment(b"x", content_type=stated)

    (found,) = read(written(an_email(attachments=(file,)), {file.sha256: b"x"})).iter_attachments()

    assert (found.get_content_type(), dict(found["Content-Type"].params)) == (kind, parameters)
    assert found["Content-Type"].defects == ()


def tree(part: Any) -> Any:
    """Content types, nested as the parts are."""
    kind = part.get_content_type()
    return (kind, [tree(inner) for inner in part.iter_parts()]) if part.is_multipart() else kind


LOGO = an_attachment(b"logo", filename="logo.png", content_type="image/png", content_id="logo@shop")
INVITE = an_attachment(b"BEGIN", filename="i.ics", content_type="text/calendar; method=REQUEST; charset=UTF-8")
PDF = an_attachment(b"%PDF")
CONTENTS = {LOGO.sha256: b"logo", INVITE.sha256: b"BEGIN", PDF.sha256: b"%PDF"}


@pytest.mark.parametrize(
    ("text", "html", "files", "expected"),
    [
        ("t", None, (PDF,), ("multipart/mixed", ["text/plain", "application/pdf"])),
        (None, "h", (LOGO,), ("multipart/related", ["text/html", "image/png"])),
        (
            "t",
            "h",
            (PDF, LOGO, INVITE),
            (
                "multipart/mixed",
                [
                    (
                        "multipart/alternative",
                        ["text/plain", ("multipart/related", ["text/html", "image/png"]), "text/calendar"],
                    ),
                    "application/pdf",
                ],
            ),
        ),
        ("t", None, (INVITE,), ("multipart/alternative", ["text/plain", "text/calendar"])),
        ("t", None, (LOGO,), ("multipart/mixed", ["text/plain", "image/png"])),
        (
            "t",
            None,
            (INVITE, INVITE),
            ("multipart/mixed", [("multipart/alternative", ["text/plain", "text/calendar"]), "text/calendar"]),
        ),
    ],
    ids=["file", "inline", "everything", "invitation", "inline without html", "two invitations"],
)
def test_each_part_stands_where_its_readers_look_for_it(text: Any, html: Any, files: Any, expected: Any) -> None:
    mail = read(written(an_email(text=text, html=html, attachments=files), CONTENTS))

    assert tree(mail) == expected
    assert [part.defects for part in mail.walk() if part.defects] == []


def test_an_inline_image_is_found_by_its_content_id() -> None:
    mail = read(written(an_email(html='<img src="cid:logo@shop">', attachments=(LOGO,)), CONTENTS))

    (image,) = [part for part in mail.walk() if part["Content-ID"] == "<logo@shop>"]
    assert (image.get_content_disposition(), image.get_filename(), image.get_content()) == (
        "inline",
        "logo.png",
        b"logo",
    )
    (related,) = [part for part in mail.walk() if part.get_content_type() == "multipart/related"]
    assert related.get_param("type") == "text/html"


def test_f7_an_invitation_keeps_its_method_and_its_name() -> None:
    mail = read(written(an_email(html="h", attachments=(INVITE,)), CONTENTS))

    *_, calendar = mail.iter_parts()
    assert dict(calendar["Content-Type"].params) == {"method": "REQUEST", "charset": "UTF-8"}
    assert (calendar.get_filename(), calendar.get_content()) == ("i.ics", "BEGIN")


@pytest.mark.parametrize("content_id", ["a b", "a>", "<a", "a\r\nX: y", "ü", ""])
def test_a_content_id_that_could_end_its_header_is_refused(content_id: str) -> None:
    file = an_attachment(b"x", content_id=content_id)

    with pytest.raises(UnsupportedMessageError):
        written(an_email(html="h", attachments=(file,)), {file.sha256: b"x"})


@settings(deadline=None, max_examples=60)
@given(
    subject=st.text("aü世👍 ", max_size=200),
    name=st.text("aü世👍", min_size=1, max_size=100),
    local=st.text("ab", min_size=1, max_size=60),
)
def test_f16_no_line_with_an_encoded_word_has_more_than_76_characters(subject: str, name: str, local: str) -> None:
    address = f"{name} <{local}@{'x' * 60}.example>"
    raw = written(an_email(subject=subject, sender=address, to=(address, address), cc=(address,), reply_to=address))

    lines = [line for line in raw.split(b"\r\n\r\n")[0].split(b"\r\n") if b"=?utf-8?" in line]
    assert max(map(len, lines), default=0) <= 76
    assert [found.addr_spec for found in read(raw)["To"].addresses] == [address.split("<")[1][:-1]] * 2


def test_blind_copies_are_in_no_header() -> None:
    raw = written(an_email(bcc=("secret@example.org",), cc=("c@example.org",)))

    assert b"secret" not in raw
    assert read(raw)["Cc"] == "c@example.org"


def test_the_mail_is_identified_and_dated_by_the_message_and_not_by_the_moment() -> None:
    mail = read(written(an_email(reply_to="help@example.com")))

    assert mail["Message-ID"] == "<msg_1@example.com>"
    assert mail["X-Sluice-Message-Id"] == "msg_1"
    assert parsedate_to_datetime(mail["Date"]) == NOON
    assert mail["Reply-To"] == "help@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"


def test_a_repeat_is_byte_identical() -> None:
    content = b"%PDF"
    file = an_attachment(content)
    mail = an_email(html="<p>é</p>", attachments=(file,))

    assert written(mail, {file.sha256: content}) == written(mail, {file.sha256: content})


def test_a_mail_without_any_content_is_refused() -> None:
    with pytest.raises(UnsupportedMessageError):
        written(an_email(text=None))


@pytest.mark.parametrize(
    "address",
    [
        "ana@example.org\r\nBcc: x@example.org",
        "ana@example.org\nX: y",
        "a b@example.org",
        "ana@exa mple.org",
        "<ana@example.org",
        "ana",
        "@example.org",
        "ana@",
        "ana@-example.org",
        "a@b@example.org",
        "ana@example.org>, <x@example.org",
        "ana@example.org, x@example.org",
        "ana@example.org\x00",
        "ana\u2028@example.org",
        "ana@" + "x" * 64 + ".org",
        "Ana\r\nBcc: x@example.org <ana@example.org>",
        "Ana\x85X: y <ana@example.org>",
        "",
    ],
)
def test_an_address_that_could_become_something_else_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(InvalidAddressError) as refusal:
        written(an_email(to=(address,)))

    assert "example" not in str(refusal.value)


@pytest.mark.parametrize(
    ("address", "name", "bare"),
    [
        ("Ana <ana@example.org>", "Ana", "ana@example.org"),
        ('"Ana, von A." <ana@example.org>', "Ana, von A.", "ana@example.org"),
        ("Ana (CEO) <ana@example.org>", "Ana (CEO)", "ana@example.org"),
        ("Анна <ana@example.org>", "Анна", "ana@example.org"),
        ("=?utf-8?b?eA==?= <ana@example.org>", "=?utf-8?b?eA==?=", "ana@example.org"),
        ("ana@bücher.example", "", "ana@xn--bcher-kva.example"),
        ("O'Neil \\ Co <ana@example.org>", "O'Neil \\ Co", "ana@example.org"),
        ('"Jane <CEO>" <ana@example.org>', "Jane <CEO>", "ana@example.org"),
        ('Ana <"a b, c"@example.org>', "Ana", '"a b, c"@example.org'),
        ("ana@straße.example", "", "ana@xn--strae-oqa.example"),
    ],
)
def test_an_address_comes_back_as_it_was_meant(address: str, name: str, bare: str) -> None:
    (found,) = read(written(an_email(to=(address,))))["To"].addresses

    assert (found.display_name, found.addr_spec) == (name, bare)


printable = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=300)


@settings(deadline=None, max_examples=40)
@given(subject=printable)
def test_any_subject_comes_back_and_adds_no_header(subject: str) -> None:
    raw = written(an_email(subject=subject))

    assert headers_of(raw)[: len(HEADERS)] == HEADERS
    assert str(read(raw)["Subject"]) == subject


@settings(deadline=None, max_examples=40)
@given(subject=st.text(max_size=60), name=st.text(max_size=60))
def test_no_subject_or_name_whatsoever_adds_a_header(subject: str, name: str) -> None:
    try:
        raw = written(an_email(subject=subject, to=(f"{name} <ana@example.org>",)))
    except (UnsupportedMessageError, InvalidAddressError):
        return  # refused as a whole: nothing to add to

    assert headers_of(raw)[: len(HEADERS)] == HEADERS
    assert [address.addr_spec for address in read(raw)["To"].addresses] == ["ana@example.org"]


@settings(deadline=None, max_examples=40)
@given(name=printable.filter(lambda name: len(name) <= 200 and not has_invisible(name)))
def test_any_display_name_comes_back(name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    raw = written(an_email(to=(f'"{quoted}" <ana@example.org>',)))

    # The older parser: the newer one puts a blank between two encoded words of a name, against RFC 2047.
    encoded, address = parseaddr(message_from_bytes(raw)["To"])
    assert (str(make_header(decode_header(encoded))), address) == (name, "ana@example.org")


@settings(deadline=None, max_examples=40)
@given(text=st.text(st.characters(codec="utf-8"), max_size=2000))
def test_any_text_comes_back_in_ascii_lines_that_every_server_takes(text: str) -> None:
    raw = written(an_email(text=text, html="<p>x</p>"))

    plain, _ = read(raw).iter_parts()
    assert content_of(plain) == text.replace("\r\n", "\n").replace("\r", "\n")
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)


@settings(deadline=None, max_examples=40)
@given(name=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=80))
def test_any_attachment_name_adds_no_header(name: str) -> None:
    file = an_attachment(b"x", filename=name)
    raw = written(an_email(attachments=(file,)), {file.sha256: b"x"})

    (found,) = read(raw).iter_attachments()
    assert [header.lower() for header in found] == [
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
    ]


@pytest.mark.parametrize("broken", ["a\rb", "a\nb", "a\x0bb", "a\x85b", "a\u2028b", "a\x00b", "a\x1eb"])
def test_a_subject_with_a_line_break_of_any_kind_is_refused(broken: str) -> None:
    with pytest.raises(UnsupportedMessageError):
        written(an_email(subject=broken))


@pytest.mark.parametrize("field", ["subject", "text", "html"])
def test_half_a_character_is_refused(field: str) -> None:
    with pytest.raises(UnsupportedMessageError):
        written(an_email(**{field: "\ud800"}))
