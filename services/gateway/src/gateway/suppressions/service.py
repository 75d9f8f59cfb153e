"""Suppressions of a project, for every API."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from gateway.auth.principal import Principal
from gateway.errors import NotFound, ValidationFailed
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model import ids
from sluice.model.address import InvalidAddressError
from sluice.model.message import Channel
from sluice.model.suppression import MAX_ADDRESS, SuppressionReason, normalise_address
from sluice.runtime.clock import utc_now
from sluice.store import audit, suppressions
from sluice.store.audit import Actor
from sluice.store.suppressions import Filter, NewSuppression, Recipient, Suppression

NO_SUPPRESSION = "The project has no such suppression."


async def add(
    services: Services,
    principal: Principal,
    *,
    channel: Channel,
    addresses: Sequence[str],
    reason: SuppressionReason,
    detail: str,
    actor: Actor,
) -> tuple[list[Suppression], int]:
    """Suppress addresses: their suppressions, in the order of the addresses, and how many of them are new.

    Raises:
        ValidationFailed: an address is none of this channel; its position is named.
        Unavailable: PostgreSQL does not answer.
    """
    recipients = [
        Recipient(principal.project_id, channel, _address(channel, text, index)) for index, text in enumerate(addresses)
    ]
    now = utc_now()
    async with transaction(services.pool, principal.project_id) as db:
        added = await suppressions.add(db, [NewSuppression(one, reason, detail) for one in recipients], now=now)
        found = await suppressions.list_named(db, recipients)
        if added:
            await audit.append(
                db,
                actor,
                project_id=principal.project_id,
                action="created",
                noun="suppression",
                object_id=ids.encode_id("sup", found[added[0]].id),
                changes={
                    "channel": channel.value,
                    "reason": reason.value,
                    "addresses": [one.address for one in added],
                },
                now=now,
            )
    return [found[recipient] for recipient in dict.fromkeys(recipients)], len(added)


def _address(channel: Channel, text: str, index: int) -> str:
    field = f"addresses.{index}"
    try:
        address = normalise_address(channel, text)
    except InvalidAddressError as error:
        raise ValidationFailed(f"{field}: {error}", field=field) from None
    if not 0 < len(address) <= MAX_ADDRESS:
        raise ValidationFailed(f"{field}: must have 1 to {MAX_ADDRESS} characters", field=field)
    return address


async def list_suppressions(
    services: Services, principal: Principal, filters: Filter, *, limit: int, before: UUID | None
) -> list[Suppression]:
    """The suppressions of the principal's project that match, newest first.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await suppressions.list_suppressions(db, principal.project_id, filters, limit=limit, before=before)


async def find(services: Services, principal: Principal, suppression_id: UUID) -> Suppression:
    """One suppression.

    Raises:
        NotFound: the project has none with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        found = await suppressions.find_suppression(db, principal.project_id, suppression_id)
    if found is None:
        raise NotFound(NO_SUPPRESSION)
    return found


async def remove(services: Services, principal: Principal, suppression_id: UUID, actor: Actor) -> None:
    """Remove one suppression: messages to the address are sent again.

    Raises:
        NotFound: the project has none with this id.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        removed = await suppressions.remove(db, principal.project_id, suppression_id)
        if removed is None:
            raise NotFound(NO_SUPPRESSION)
        await audit.append(
            db,
            actor,
            project_id=principal.project_id,
            action="deleted",
            noun="suppression",
            object_id=ids.encode_id("sup", suppression_id),
            changes={"channel": removed.channel.value, "reason": removed.reason.value, "address": removed.address},
            now=utc_now(),
        )


async def remove_matching(services: Services, principal: Principal, filters: Filter, actor: Actor) -> int:
    """Remove all suppressions that match ``filters``; their number.

    Raises:
        ValidationFailed: there is no filter.
        Unavailable: PostgreSQL does not answer.
    """
    if filters == Filter():
        raise ValidationFailed("Name at least one filter: without one, all suppressions would be removed.")
    async with transaction(services.pool, principal.project_id) as db:
        removed = await suppressions.remove_matching(db, principal.project_id, filters)
        if removed:
            given = {name: str(value) for name, value in filters._asdict().items() if value is not None}
            await audit.append(
                db,
                actor,
                project_id=principal.project_id,
                action="deleted",
                noun="suppression",
                object_id="*",
                changes={**given, "removed": removed},
                now=utc_now(),
            )
    return removed
