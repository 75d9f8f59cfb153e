"""Addresses of other hosts in requests."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import ValidationFailed
from sluice.transports.outgoing import ForbiddenAddressError, OutgoingAddresses


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
