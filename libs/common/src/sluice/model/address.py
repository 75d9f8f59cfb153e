"""The one grammar of e-mail addresses: ``local@domain`` or ``Name <local@domain>``, one address in one text.

The grammar is that of the library email-validator (RFC 5321, 6531 and 5891) without comments and address literals; the
name is a phrase of RFC 5322. Nothing that this module accepts can end a header, an SMTP command or an address early,
name a second address, or look like another address.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import email_validator
import idna
from email_validator import EmailNotValidError, ValidatedEmail, validate_email

from sluice.model.characters import INVISIBLE, has_invisible

# An installation may send to a domain such as `.local` or `localhost` through a relay of its own.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

# Controls (C0, C1), line separators and halves of surrogate pairs.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The common form, in linear time. The library accepts everything that matches, at a hundred times the cost.
_ATOM = r"[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]+"
_PLAIN = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@([A-Za-z0-9]+(?:[-.][A-Za-z0-9]+)*)")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
# Parentheses, brackets, dots and backslashes may stand outside of quotes: they cannot name another address.
_NAMED = re.compile(rf'((?:[^"<>,;:@]|{_QUOTED})*)<((?:[^"<>]|{_QUOTED})*)>')
_JOINERS = re.compile("[\u200c\u200d]")  # letters of some scripts in a domain, by the context rules of IDNA 2008
_MAX_LOCAL = 64  # characters, RFC 5321
_MAX_LABEL = 63  # characters, RFC 1035; a longer domain is left to the library
_MAX_DOMAIN = 253  # characters, RFC 1035
_MAX_NAME = 200  # characters


class InvalidAddressError(ValueError):
    """The text is not an e-mail address; the message does not repeat it."""


class Address(NamedTuple):
    """``name`` is decoded text, ``local`` is quoted where it has to be and may be non-ASCII, ``domain`` is ASCII (IDNA
    2008) in lower case.
    """

    name: str
    local: str
    domain: str

    @property
    def bare(self) -> str:
        """``local@domain``: equal for the same mailbox, as far as anyone but its own server can say (RFC 5321 2.4)."""
        return f"{self.local}@{self.domain}"

    @property
    def ascii(self) -> bool:
        """False: only a server with SMTPUTF8 accepts the address."""
        return self.local.isascii()


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """The parts of ``local@domain`` or ``Name <local@domain>``; the name may contain quoted strings.

    Raises:
        InvalidAddressError: the text is neither.
    """
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise InvalidAddressError("must not contain line breaks or control characters")
    name, bare = _split(text.strip()) if text[-1:] in "> " else ("", text)
    plain = _PLAIN.fullmatch(bare)
    if plain is not None:
        local, domain = plain.groups()
        if len(local) > _MAX_LOCAL or len(domain) > _MAX_LABEL:
            local, domain = _parse_bare(bare)
    else:
        local, domain = _parse_bare(bare.strip())
    if domain.rpartition(".")[2].isdigit():
        raise InvalidAddressError("is not a valid e-mail address: the domain ends in a number, as an IP address does")
    return Address(name, local, domain.lower())


def format_address(name: str, bare: str) -> str:
    """``Name <local@domain>`` as :func:`parse_address` reads it, or ``bare`` without a name."""
    if re.search(r'["<>,;:@]', name):
        escaped = re.sub(r'(["\\])', r"\\\1", name)
        name = f'"{escaped}"'
    return f"{name} <{bare}>" if name else bare


def _split(text: str) -> tuple[str, str]:
    if not text.endswith(">"):
        return "", text
    parts = _NAMED.fullmatch(text)
    if parts is None:
        raise InvalidAddressError(
            "is not one valid e-mail address: a name with any of , ; : @ < > must stand in double quotes"
        )
    name = re.sub(_QUOTED, lambda quoted: re.sub(r"\\(.)", r"\1", quoted[0][1:-1]), parts[1].strip())
    if len(name) > _MAX_NAME:
        raise InvalidAddressError(f"has a name of more than {_MAX_NAME} characters")
    if has_invisible(name):
        raise InvalidAddressError("has a name with invisible characters")
    return name, parts[2].strip()


def _parse_bare(text: str) -> tuple[str, str]:
    """Local part and ASCII domain."""
    local, _, domain = text.rpartition("@")
    if INVISIBLE.search(_JOINERS.sub("", text)) or _JOINERS.search(local):
        raise InvalidAddressError("must not contain invisible characters")
    readable = _decode(domain)
    if _JOINERS.search(readable):
        # The library refuses every joiner, also where it is a letter of the domain's name.
        found = _validate(f"{local}@{_JOINERS.sub('', readable)}")
        return _local_part(local, found), _encode(readable)
    found = _validate(text)
    return _local_part(local, found), found.ascii_domain


def _validate(text: str) -> ValidatedEmail:
    try:
        return validate_email(
            text, check_deliverability=False, globally_deliverable=False, strict=True, allow_quoted_local=True
        )
    except EmailNotValidError as error:
        if text.count("@") > 1 and '"' not in text:
            raise InvalidAddressError("is not one valid e-mail address: it contains more than one @") from None
        reason = str(error).removesuffix(".")
        raise InvalidAddressError(f"is not a valid e-mail address: {reason[:1].lower()}{reason[1:]}") from None


def _local_part(written: str, found: ValidatedEmail) -> str:
    """The library's form, with minimal quotes and in NFC; but names such as ``Postmaster`` keep their case."""
    return written if written.lower() == found.local_part else found.local_part


def _decode(domain: str) -> str:
    """A domain with punycode labels as text; any other, and an invalid one, as it is."""
    if len(domain) > _MAX_DOMAIN or "xn--" not in domain.lower():
        return domain
    try:
        return idna.decode(domain)
    except (idna.IDNAError, UnicodeError):
        return domain


def _encode(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise InvalidAddressError("is not a valid e-mail address: the domain is not valid in IDNA 2008") from None
