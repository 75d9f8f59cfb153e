"""Mail addresses for headers and SMTP commands: parsed strictly, refused when unusual."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from sluice.providers.contract import UnsupportedMessageError

# Everything that could end a header, a command or an address early is outside of these classes. Quoted local
# parts ("a b"@host) are legal and unused; refusing them keeps one rule for headers, envelopes and JSON.
_LOCAL = re.compile(r"[^\s\x00-\x20\x7f-\xa0<>()\[\]\\,;:\"@\u2028\u2029]{1,64}\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Address:
    """``name`` is decoded text, ``local`` may be non-ASCII, ``domain`` is always ASCII (punycode)."""

    name: str
    local: str
    domain: str

    @property
    def bare(self) -> str:
        """``local@domain``."""
        return f"{self.local}@{self.domain}"

    @property
    def ascii(self) -> bool:
        """False: only a server with SMTPUTF8 takes it."""
        return self.local.isascii()


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """``Name <local@domain>`` or a bare address; UnsupportedMessageError, without the text, when it is neither."""
    name, bare = _split(text.strip())
    local, _, domain = bare.rpartition("@")
    if _FORBIDDEN.search(name) or not _LOCAL.match(local):
        raise UnsupportedMessageError("an e-mail address is not valid")
    return Address(name, local, _ascii_domain(domain))


def _split(text: str) -> tuple[str, str]:
    if not text.endswith(">"):
        return "", text
    name, _, bare = text[:-1].rpartition("<")
    return _unquote(name.strip()), bare.strip()


def _unquote(name: str) -> str:
    if len(name) > 1 and name[0] == name[-1] == '"':
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name


def _ascii_domain(domain: str) -> str:
    try:
        encoded = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        raise UnsupportedMessageError("the domain of an e-mail address is not valid") from None
    if not _DOMAIN.match(encoded):
        raise UnsupportedMessageError("the domain of an e-mail address is not valid")
    return encoded
