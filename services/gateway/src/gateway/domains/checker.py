"""Checks of the DNS records that a sending domain needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from sluice.runtime.errors import SluiceError

_LIFETIME = 4.0  # seconds for one record, all servers and retries included
_CONCURRENCY = 16  # checks at once in one gateway
_DNS_PORT = 53


class Purpose(StrEnum):
    """What a record is for."""

    OWNERSHIP = "ownership"
    SPF = "spf"
    DKIM = "dkim"
    DMARC = "dmarc"


class RecordStatus(StrEnum):
    """The result of a check. ``unknown``: DNS gave no answer; ``pending``: not checked yet."""

    PENDING = "pending"
    VERIFIED = "verified"
    MISSING = "missing"
    MISMATCH = "mismatch"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ExpectedRecord:
    """A record that the owner of the domain adds. ``host``: relative to the domain, ``@`` for the domain itself.

    ``matches``: whether the values that DNS has, lower-case names for CNAME, fulfil the purpose.
    """

    purpose: Purpose
    type: str
    host: str
    value: str
    matches: Callable[[Sequence[str]], bool]


class DomainChecker:
    """Knows the records of a domain and looks them up.

    ``servers``: DNS servers as ``address`` or ``address:port``, none for those of the system. ``mail_domain``: the
    domain with the SPF and DKIM records of what sends the mail; without one there are no such records to check.
    """

    def __init__(self, *, servers: Sequence[str] = (), mail_domain: str | None = None) -> None:
        self._servers = [_nameserver(text) for text in servers]
        self._mail_domain = None if mail_domain is None else mail_domain.lower()
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    def records(self, token: str) -> list[ExpectedRecord]:
        """The records of a domain with this verification token."""
        ownership = f"sluice-verify={token}"
        found = [
            ExpectedRecord(Purpose.OWNERSHIP, "TXT", "_sendpipe-verify", ownership, lambda values: ownership in values)
        ]
        if self._mail_domain is not None:
            include = f"include:{self._mail_domain}"
            target = f"sendpipe._domainkey.{self._mail_domain}"
            found += [
                ExpectedRecord(
                    Purpose.SPF, "TXT", "@", f"v=spf1 {include} ~all", lambda values: _has_include(values, include)
                ),
                ExpectedRecord(Purpose.DKIM, "CNAME", "sendpipe._domainkey", target, lambda values: target in values),
            ]
        return [*found, ExpectedRecord(Purpose.DMARC, "TXT", "_dmarc", "v=DMARC1; p=none", _has_one_policy)]

    def is_verified(self, statuses: Mapping[str, str]) -> bool:
        """Whether these, by purpose, say of every record that it was found. A record that is no longer asked for does
        not count.
        """
        return all(statuses.get(record.purpose.value) == RecordStatus.VERIFIED for record in self.records(""))

    async def check(self, domain: str, records: Sequence[ExpectedRecord]) -> list[RecordStatus]:
        """The status of each record of the domain now; DNS failures are ``unknown``, never an exception."""
        async with self._slots:
            resolver = self._resolver()
            return list(await asyncio.gather(*(_check(resolver, domain, record) for record in records)))

    def _resolver(self) -> dns.asyncresolver.Resolver | None:
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        except dns.exception.DNSException:  # the system names no server
            return None
        if self._servers:
            resolver.nameservers = list(self._servers)
        resolver.lifetime = _LIFETIME
        return resolver


async def _check(resolver: dns.asyncresolver.Resolver | None, domain: str, record: ExpectedRecord) -> RecordStatus:
    if resolver is None:
        return RecordStatus.UNKNOWN
    host = domain if record.host == "@" else f"{record.host}.{domain}"
    try:
        answer = await resolver.resolve(dns.name.from_text(f"{host}."), record.type, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return RecordStatus.MISSING
    except (dns.exception.DNSException, OSError):
        return RecordStatus.UNKNOWN
    values = [_value(data) for data in answer]
    if record.matches(values):
        return RecordStatus.VERIFIED
    return RecordStatus.MISMATCH


def _value(data: object) -> str:
    strings = getattr(data, "strings", None)
    if strings is not None:  # a TXT record of several strings is their concatenation (RFC 7208, 3.3)
        return b"".join(strings).decode("utf-8", "replace").strip()
    return str(getattr(data, "target", "")).rstrip(".").lower()


def _has_include(values: Sequence[str], include: str) -> bool:
    """One SPF record (RFC 7208, 4.5: several are an error) that includes the domain, with any qualifier but fail."""
    policies = [value.lower().split() for value in values if value.lower().split()[:1] == ["v=spf1"]]
    return len(policies) == 1 and any(term in (include, f"+{include}") for term in policies[0])


def _has_one_policy(values: Sequence[str]) -> bool:
    """One DMARC record (RFC 7489, 6.6.3: several are none)."""
    return sum(value.replace(" ", "").lower().startswith("v=dmarc1;") for value in values) == 1


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    address, _, port = text.rpartition(":") if text.count(":") == 1 or text.startswith("[") else (text, "", "")
    try:
        host = str(ip_address(address.strip("[]")))
        number = int(port) if port else _DNS_PORT
        if not 0 < number < 65_536:
            raise ValueError(port)
        return dns.nameserver.Do53Nameserver(host, number)
    except ValueError:
        raise SluiceError(f"SLUICE_DNS_SERVERS: {text!r} is not an address or address:port") from None
