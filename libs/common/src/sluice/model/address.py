"""The one grammar of e-mail addresses: ``local@domain`` or ``Name <local@domain>``.

The grammar is that of the library email-validator (RFC 5321, 6531 and 5891) without quoted local parts, comments and
domain literals. Nothing that this module accepts can end a header, an SMTP command or an address early.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import email_validator
from email_validator import EmailNotValidError, validate_email

# An installation may send to a domain such as `.local` or `localhost` through a relay of its own.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

# Controls (C0, C1), line separators and halves of surrogate pairs.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The common form, in linear time. The library accepts everything that matches, at a hundred times the cost.
_ATOM = r"[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]+"
_PLAIN = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@([A-Za-z0-9]+(?:[-.][A-Za-z0-9]+)*)")
_MAX_LOCAL = 64  # characters, RFC 5321
_MAX_LABEL = 63  # characters, RFC 1035; a longer domain is left to the library
_MAX_NAME = 200  # characters


class InvalidAddressError(ValueError):
    """The text is not an e-mail address; the message does not repeat it."""


class Address(NamedTuple):
    """``name`` is decoded text, ``local`` may be non-ASCII, ``domain`` is ASCII (IDNA 2008) in lower case."""

    name: str
    local: str
    domain: str

    @property
    def bare(self) -> str:
        """``local@domain``."""
        return f"{self.local}@{self.domain}"

    @property
    def ascii(self) -> bool:
        """False: only a server with SMTPUTF8 accepts the address."""
        return self.local.isascii()


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """The parts of ``local@domain`` or ``Name <local@domain>``; the name may be a quoted string.

    Raises:
        InvalidAddressError: the text is neither.
    """
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise InvalidAddressError("must not contain line breaks or control characters")
    name, bare = _split(text.strip()) if text[-1:] in "> " else ("", text)
    plain = _PLAIN.fullmatch(bare)
    if plain is not None:
        local, domain = plain.groups()
        if len(local) <= _MAX_LOCAL and len(domain) <= _MAX_LABEL:
            return Address(name, local, domain.lower())
    return Address(name, *_parse_bare(bare.strip()))


def _split(text: str) -> tuple[str, str]:
    if not text.endswith(">"):
        return "", text
    name, bracket, bare = text[:-1].rpartition("<")
    if not bracket or len(name) > _MAX_NAME or "<" in name or ">" in name:
        raise InvalidAddressError("is not a valid e-mail address")
    return _unquote(name.strip()), bare.strip()


def _unquote(name: str) -> str:
    if len(name) > 1 and name[0] == name[-1] == '"':
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name


def _parse_bare(text: str) -> tuple[str, str]:
    try:
        found = validate_email(text, check_deliverability=False, globally_deliverable=False, strict=True)
    except EmailNotValidError:
        raise InvalidAddressError("is not a valid e-mail address") from None
    return text.rpartition("@")[0], found.ascii_domain
