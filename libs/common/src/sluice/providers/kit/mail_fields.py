"""The parts of a mail as the JSON and form APIs of e-mail providers take them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

from sluice.model.address import Address, parse_address
from sluice.model.message import Attachment, Email
from sluice.providers.contract import UnsupportedMessageError
from sluice.providers.kit.mime import encoded_phrase


def ascii_address(text: str) -> Address:
    """The address, its domain in punycode.

    Raises:
        InvalidAddressError: the text is no address.
        UnsupportedMessageError: the part before the @ is not ASCII.
    """
    address = parse_address(text)
    if not address.ascii:
        raise UnsupportedMessageError("the provider takes no address with characters beyond ASCII before the @")
    return address


def require_ascii(mail: Email) -> None:
    """Return when every address of the mail is ASCII; raises as :func:`ascii_address`."""
    for text in (mail.sender, *mail.to, *mail.cc, *mail.bcc, *([mail.reply_to] if mail.reply_to else [])):
        ascii_address(text)


def mailbox(address: Address) -> str:
    """``Name <local@domain>`` in ASCII: a name beyond it in encoded words (RFC 2047)."""
    if not address.name:
        return address.bare
    name = encoded_phrase(address.name, used=0).decode("ascii").replace("\r\n", "")
    return f"{name} <{address.bare}>"


def texts_of(mail: Email) -> Iterator[tuple[str, str]]:
    """Content type and text of the mail's versions that are not empty, the plain text first.

    Raises:
        UnsupportedMessageError: there is none.
    """
    if not (mail.text or mail.html):
        raise UnsupportedMessageError("the provider takes no mail without a text")
    if mail.text:
        yield "text/plain", mail.text
    if mail.html:
        yield "text/html", mail.html


def base64_content(file: Attachment, contents: Mapping[str, bytes]) -> str:
    """The file's bytes in base64; ``contents`` by sha256.

    Raises:
        UnsupportedMessageError: the file is empty.
    """
    if not contents[file.sha256]:
        raise UnsupportedMessageError("the provider takes no empty attachment")
    return base64.b64encode(contents[file.sha256]).decode("ascii")
