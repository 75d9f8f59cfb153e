"""Addresses of other hosts in requests."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx

from gateway.errors import ValidationFailed
from sluice.transports.outgoing import ForbiddenAddressError, OutgoingAddresses

_HOST = re.compile(rb"[a-z0-9._-]+|[0-9a-f:.]+")  # a name in ASCII, or an address that httpx has validated


def parsed_url(text: str) -> httpx.URL:
    """An http or https URL, as the clients that dial it read it.

    Raises:
        ValueError: it is none.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host or any(letter.isspace() for letter in text):
        raise ValueError("must be an http or https URL, such as https://shop.example/hooks")
    if not _HOST.fullmatch(url.raw_host):
        raise ValueError("is not a URL: the name of its host has characters that no host has")
    if url.port is not None and not 0 < url.port < 1 << 16:
        raise ValueError("must have a port between 1 and 65535")
    return url


def host_of(text: str) -> str:
    """The host of a URL as it is dialled, in ASCII.

    Raises:
        ValueError: see :func:`parsed_url`.
    """
    return parsed_url(text).raw_host.decode("ascii")


async def check_hosts(outgoing: OutgoingAddresses, hosts: Mapping[str, str]) -> None:
    """Refuse hosts that may not be dialled. ``hosts``: by the field of the request.

    Raises:
        ValidationFailed: a host is not permitted; the field is named.
    """
    for field, host in hosts.items():
        try:
            await outgoing.check_host(host)
        except ForbiddenAddressError as error:
            raise ValidationFailed(f"{field}: {error}", field=field) from None
