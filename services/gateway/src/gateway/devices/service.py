"""Devices of a project's users, for every API."""

from __future__ import annotations

from gateway.auth.principal import Principal
from gateway.errors import NotFound, ValidationFailed
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.runtime.clock import utc_now
from sluice.store import devices
from sluice.store.devices import Device

_PREFIXES = ("topic:", "user:")  # of recipients that are no devices


async def register(services: Services, principal: Principal, device: Device) -> None:
    """Add a device, or give a known token to another user.

    Raises:
        ValidationFailed: the token reads as a topic.
        Unavailable: PostgreSQL does not answer.
    """
    check_token(device.token)
    async with transaction(services.pool, principal.project_id) as db:
        await devices.register(db, principal.project_id, device, now=utc_now())


async def remove(services: Services, principal: Principal, token: str) -> None:
    """Remove a device.

    Raises:
        NotFound: the project has none with this token.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        if not await devices.remove(db, principal.project_id, token):
            raise NotFound("Device not found")


async def tokens_of(services: Services, principal: Principal, user_id: str) -> list[str]:
    """The tokens of a user's devices, the newest first.

    Raises:
        NotFound: the user has none.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        tokens = await devices.list_tokens(db, principal.project_id, user_id)
    if not tokens:
        raise NotFound("The user has no registered device")
    return tokens


def check_token(token: str) -> None:
    """Refuse a text that would be no device as a recipient.

    Raises:
        ValidationFailed: it reads as a topic.
    """
    if token.startswith(_PREFIXES):
        raise ValidationFailed("deviceToken: is a topic or a user, not a device", field="deviceToken")
