"""The addresses that Sluice connects to on behalf of a project: public ones, and those that the operator allows.

A project chooses the hosts of its providers and webhooks. The decision is therefore made on the address that is
dialled, after the name was resolved: neither a spelling of the address nor a second answer of the name server matters.
``ipaddress``'s ``is_global`` is not used: it is true for NAT64, multicast and some internal services of clouds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

Network = IPv4Network | IPv6Network
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]

# IANA's special-purpose registry for IPv4, multicast and the reserved block.
_REFUSED = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; one cloud's metadata is in it
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's internal service on a public address
        "169.254.0.0/16",  # link-local, with the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; one cloud's metadata is in it
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# The only global unicast block of IPv6. IPv4-mapped, NAT64, unique local, link-local and multicast are outside it.
_GLOBAL_IPV6 = ip_network("2000::/3")


class ForbiddenAddressError(OSError):
    """The host has only addresses that are not allowed; no connection was opened."""

    # The same text for every address: aiohappyeyeballs joins different ones into an error of no type.
    def __init__(self) -> None:
        super().__init__("the address of the host is not public, and SLUICE_OUTGOING_ALLOW does not allow it")


# Names that callers choose: their name servers may never answer. No other look-up waits behind them, and no other work.
_LOOKUPS = ThreadPoolExecutor(2, thread_name_prefix="lookup")
_LOOKUP_LIMIT = 3.0  # seconds


@dataclass(frozen=True, slots=True)
class OutgoingAddresses:
    """Decides which addresses may be dialled: public ones, and those in ``allowed``."""

    allowed: tuple[Network, ...] = ()

    def permits(self, address: str) -> bool:
        """Whether ``address`` may be dialled: the text of an IPv4 or IPv6 address, with or without a scope.

        Raises:
            ValueError: it is no address.
        """
        found = ip_address(address.partition("%")[0])
        if any(found in network for network in self.allowed):
            return True
        if found.version == 6 and found not in _GLOBAL_IPV6:
            return False
        return not any(found in network for network in _REFUSED)

    def select(self, addresses: Sequence[AddressInfo]) -> list[AddressInfo]:
        """Those of the resolved addresses that may be dialled.

        Raises:
            ForbiddenAddressError: none of them may.
        """
        selected = [info for info in addresses if self.permits(info[4][0])]
        if addresses and not selected:
            raise ForbiddenAddressError
        return selected

    async def check_host(self, host: str) -> None:
        """Refuse a host when it is configured: an early error, not the decision, which is made on each connection.

        A name that is not found passes: it may exist later. So does one whose name servers do not answer in time.

        Raises:
            ForbiddenAddressError: the host is, or resolves to, addresses of which none may be dialled.
        """
        find = partial(socket.getaddrinfo, host.strip("[]"), None, type=socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(_LOOKUP_LIMIT):
                found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, find)
        except (OSError, UnicodeError):
            return
        self.select(found)

    def socket(self, info: AddressInfo) -> socket.socket:
        """A socket for dialling ``info``, as aiohttp's connector asks for before every connection.

        Raises:
            ForbiddenAddressError: the address may not be dialled.
        """
        family, kind, protocol, _, address = info
        if not self.permits(address[0]):
            raise ForbiddenAddressError
        return socket.socket(family, kind, protocol)


PUBLIC_ADDRESSES = OutgoingAddresses()


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks of a list separated by commas, such as ``10.1.0.0/16,fd00:1::/48``.

    Raises:
        ValueError: an entry is no network; the text names it.
    """
    networks = []
    for word in text.replace(",", " ").split():
        try:
            networks.append(ip_network(word))
        except ValueError:
            raise ValueError(f"{word!r} is not a network such as 10.1.0.0/16, without host bits") from None
    return tuple(networks)
