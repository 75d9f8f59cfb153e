"""A mail as bytes, the same bytes every time.

Written out by hand because a retry after an unknown outcome has to be byte-identical, over processes and versions of
Python: no random boundary, no clock, no folding rules of a library. The mail is ASCII (unless an address itself is not)
in CRLF lines below 998 characters, so that no 8BITMIME is needed.
Tests parse it back with the standard library's parser, which shares no code with this module.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from urllib.parse import quote

from sluice.model.address import Address, parse_address
from sluice.model.media_type import InvalidMediaTypeError, MediaType, parse_media_type
from sluice.model.message import Attachment, Email
from sluice.providers.contract import UnsupportedMessageError

_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # line ends and other controls
_PLAIN = re.compile(r"[!-~](?:[ -~]{0,64}[!-~])?\Z")  # printable ASCII, short enough for one line
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,255}")  # printable ASCII without angle brackets
_URL = re.compile(r"https?://[!-;=?-~]{1,850}")  # in one line; SES takes 870
_ENCODED_LINE = 76  # characters of a line with an encoded word at most, RFC 2047 2
_FRAME = len("=?utf-8?b?") + len("?=")
_PARAMETER = 60  # characters of one RFC 2231 segment


def write_mail(mail: Email, *, message_id: str, date: datetime, contents: Mapping[str, bytes]) -> bytes:
    """The mail in CRLF lines. ``contents``: attachment bytes by sha256.

    Raises:
        UnsupportedMessageError: a text, a name or a content type cannot stand in a mail.
        InvalidAddressError: an address of a header is not valid.
    """
    body = _body(mail, contents, seed=message_id)
    return b"\r\n".join([*_headers(mail, message_id, date), body.removesuffix(b"\r\n"), b""])


def _headers(mail: Email, message_id: str, date: datetime) -> Iterator[bytes]:
    sender = parse_address(mail.sender)
    yield _address_header("From", [sender])
    reply_to = (mail.reply_to,) if mail.reply_to else ()
    for name, addresses in (("To", mail.to), ("Cc", mail.cc), ("Reply-To", reply_to)):
        if addresses:  # Bcc is in the envelope only
            yield _address_header(name, map(parse_address, addresses))
    yield b"Subject: " + encoded_text(mail.subject, used=len("Subject: "))
    yield b"Date: " + format_datetime(date).encode("ascii")
    yield f"Message-ID: <{_safe_id(message_id)}@{sender.domain}>".encode("ascii")
    yield f"X-Sluice-Message-Id: {message_id}".encode("ascii")
    yield b"Auto-Submitted: auto-generated"  # no out-of-office replies, RFC 3834
    for name, value in unsubscribe_headers(mail).items():
        yield f"{name}: {value}".encode("ascii")
    yield b"MIME-Version: 1.0"


def unsubscribe_headers(mail: Email) -> dict[str, str]:
    """The headers of a mail from which its recipient can unsubscribe in one click, RFC 8058; none of another mail."""
    if mail.unsubscribe_url is None:
        return {}
    if not _URL.fullmatch(mail.unsubscribe_url):
        raise UnsupportedMessageError("the link to unsubscribe is not valid in a header")
    return {"List-Unsubscribe": f"<{mail.unsubscribe_url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def _safe_id(message_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,120}", message_id):
        raise UnsupportedMessageError("the message id is not valid in a Message-ID")
    return message_id


def _address_header(name: str, addresses: Iterable[Address]) -> bytes:
    label = f"{name}: "
    mailboxes = [_mailbox(address, used=1 if at else len(label)) for at, address in enumerate(addresses)]
    return label.encode("ascii") + b",\r\n ".join(mailboxes)


def _mailbox(address: Address, *, used: int) -> bytes:
    bare = address.bare.encode()  # non-ASCII only under SMTPUTF8, RFC 6532
    if not address.name:
        return bare
    phrase = encoded_phrase(address.name, used=used)
    # A line of its own: with the address, the line of an encoded word would become too long.
    return phrase + (b"\r\n <" if phrase.endswith(b"?=") else b" <") + bare + b">"


def encoded_phrase(name: str, *, used: int) -> bytes:
    """A display name: atoms as they are, other short ASCII quoted, everything else in encoded words.

    ``used``: characters of the line in front of it.
    """
    if _ATOMS.match(name) and len(name) <= 66 and "=?" not in name:
        return name.encode("ascii")
    if _PLAIN.match(name) and "=?" not in name:
        return b'"' + re.sub(r'(["\\])', r"\\\1", name).encode("ascii") + b'"'
    return encoded_text(name, used=used)


def encoded_text(text: str, *, used: int) -> bytes:
    """A header value: short printable ASCII as it is, anything else as RFC 2047 encoded words.

    ``used``: characters of the line in front of it.
    """
    if _PLAIN.match(text) and "=?" not in text:
        return text.encode("ascii")
    if _UNSAFE.search(text):
        raise UnsupportedMessageError("a header holds a line break or another control character")
    return b"\r\n ".join(b"=?utf-8?b?" + _base64(word) + b"?=" for word in _words(text, used))


def _words(text: str, used: int) -> Iterator[bytes]:
    """UTF-8 in pieces that end between characters: a decoder may decode each encoded word alone."""
    piece = b""
    room = _bytes_in_word(used)
    for character in _utf8_characters(text):
        if len(piece) + len(character) > room:
            yield piece
            piece = b""
            room = _bytes_in_word(1)
        piece += character
    if piece:
        yield piece


def _bytes_in_word(used: int) -> int:
    """How many bytes fit in the encoded word that ends a line of which ``used`` characters are taken."""
    return (_ENCODED_LINE - used - _FRAME) // 4 * 3


def _utf8_characters(text: str) -> Iterator[bytes]:
    try:
        yield from (character.encode() for character in text)
    except UnicodeEncodeError:
        raise UnsupportedMessageError("a header holds half a character (a lone surrogate)") from None


def _base64(content: bytes) -> bytes:
    return binascii.b2a_base64(content, newline=False)


def _body(mail: Email, contents: Mapping[str, bytes], *, seed: str) -> bytes:
    """The headers of the outermost part, an empty line, its content.

    ``mixed`` contains ``alternative`` and the files; ``alternative`` the text, the HTML and an invitation (RFC 6047);
    ``related`` the HTML and the files that it refers to (RFC 2387). What would contain one part only is that part.
    """
    files: dict[str, list[bytes]] = {"related": [], "alternative": [], "mixed": []}
    for file, kind, place in place_files(mail):
        files[place].append(_file_part(file, kind, contents[file.sha256], inline=place != "mixed"))
    versions = [_text_part("plain", mail.text)] if mail.text is not None else []
    if mail.html is not None:
        versions.append(_multipart("related", [_text_part("html", mail.html), *files["related"]], seed))
    if not versions:
        raise UnsupportedMessageError("the mail has neither text nor html")
    alternative = _multipart("alternative", [*versions, *files["alternative"]], seed)
    return _multipart("mixed", [alternative, *files["mixed"]], seed)


def place_files(mail: Email) -> Iterator[tuple[Attachment, MediaType, str]]:
    """Every file with its content type and the multipart that contains it.

    ``alternative``: an invitation, as a version of the text; ``related``: what the HTML refers to; ``mixed``: the rest.

    Raises:
        UnsupportedMessageError: a content type is none.
    """
    invited = False
    for file in mail.attachments:
        kind = media_type_of(file)
        if kind.is_invitation and not invited:
            invited = True
            yield file, kind, "alternative"
        else:
            yield file, kind, "related" if file.content_id is not None and mail.html is not None else "mixed"


def _multipart(kind: str, parts: list[bytes], seed: str) -> bytes:
    if len(parts) == 1:
        return parts[0]
    # "=_" can neither occur in quoted-printable nor in base64, and every leaf is one of the two.
    boundary = b"=_" + kind.encode("ascii") + b"_" + sha256(seed.encode()).hexdigest()[:24].encode("ascii")
    root = b';\r\n type="text/html"' if kind == "related" else b""
    head = b"Content-Type: multipart/" + kind.encode("ascii") + root + b';\r\n boundary="' + boundary + b'"\r\n'
    body = b"".join(b"\r\n--" + boundary + b"\r\n" + part for part in parts)
    return head + body + b"\r\n--" + boundary + b"--\r\n"


def _text_part(kind: str, text: str) -> bytes:
    try:
        content = text.replace("\r\n", "\n").replace("\r", "\n").encode()
    except UnicodeEncodeError:
        raise UnsupportedMessageError("the text holds half a character (a lone surrogate)") from None
    how, encoded = _encoded(content)
    head = f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: {how}\r\n\r\n'
    return head.encode("ascii") + encoded


def _encoded(content: bytes) -> tuple[str, bytes]:
    """Quoted-printable for mostly Latin text, base64 where it would be the shorter one."""
    non_ascii = len(content) - len(content.decode("utf-8", "ignore").encode("ascii", "ignore"))
    if 6 * non_ascii > len(content):
        return "base64", _base64_lines(content.replace(b"\n", b"\r\n"))
    return "quoted-printable", binascii.b2a_qp(content, istext=True).replace(b"\n", b"\r\n")


def _file_part(file: Attachment, kind: MediaType, content: bytes, *, inline: bool) -> bytes:
    parameters = [f"{name}={value}" for name, value in kind.parameters]
    head = [
        "Content-Type: " + ";\r\n ".join([kind.name, *parameters]),
        "Content-Transfer-Encoding: base64",
        f"Content-Disposition: {'inline' if inline else 'attachment'};\r\n {_filename(file.filename)}",
    ]
    if file.content_id is not None:
        if not _CONTENT_ID.fullmatch(file.content_id):
            raise UnsupportedMessageError("a content id is not valid in a Content-ID")
        head.append(f"Content-ID: <{file.content_id}>")
    return "\r\n".join([*head, "", ""]).encode("ascii") + _base64_lines(content)


def media_type_of(file: Attachment) -> MediaType:
    """The content type of an attachment.

    Raises:
        UnsupportedMessageError: it is none.
    """
    try:
        return parse_media_type(file.content_type)
    except InvalidMediaTypeError as error:
        raise UnsupportedMessageError(f"the content type of an attachment {error}") from None


def _filename(name: str) -> str:
    """The ``filename`` parameter; RFC 2231 segments when it is not short plain ASCII."""
    if _UNSAFE.search(name) or not name:
        raise UnsupportedMessageError("an attachment's name is empty or holds a control character")
    if _PLAIN.match(name) and not re.search(r'["\\]', name):
        return f'filename="{name}"'
    try:
        encoded = quote(name, safe="")
    except UnicodeEncodeError:
        raise UnsupportedMessageError("an attachment's name holds half a character") from None
    return ";\r\n ".join(_segments(encoded))


def _segments(encoded: str) -> Iterator[str]:
    pieces = re.findall(rf"(?:%..|[^%]){{1,{_PARAMETER // 3}}}", encoded)
    if len(pieces) == 1:
        yield f"filename*=utf-8''{pieces[0]}"
        return
    for number, piece in enumerate(pieces):
        yield f"filename*{number}*=" + ("utf-8''" if number == 0 else "") + piece


def _base64_lines(content: bytes) -> bytes:
    """Base64 in lines of 76 characters, CRLF between them."""
    text = _base64(content)
    return b"\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
