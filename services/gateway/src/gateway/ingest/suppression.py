"""The suppression check of accepted messages: one statement for a batch, none while no project of it suppresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

from sluice.model.ids import uuid7_like
from sluice.model.message import Channel
from sluice.model.suppression import SuppressionReason, describe_suppression, known_address
from sluice.store import suppressions
from sluice.store.db import Pool, rows_of
from sluice.store.ingest import NewDelivery, NewMessage
from sluice.store.suppressions import Recipient

Suppressed = Mapping[Recipient, SuppressionReason]


async def mark_suppressed(
    pool: Pool, batch: Sequence[NewMessage], has_suppressions: Callable[[UUID], bool]
) -> Sequence[NewMessage]:
    """The batch with its suppressed recipients as deliveries that fail at once.

    An e-mail whose recipients are suppressed in part goes to the others: it becomes two deliveries.
    """
    checked = [message for message in batch if has_suppressions(message.project_id)]
    if not checked:
        return batch
    recipients = [
        recipient
        for message in checked
        for delivery in message.deliveries
        for _, recipient in _recipients(message, delivery)
    ]
    async with rows_of(pool, {message.project_id for message in checked}) as db:
        found = await suppressions.find(db, recipients)
    return [_marked(message, found) if found else message for message in batch]


def addresses_of(delivery: NewDelivery) -> tuple[str, ...]:
    """The addresses of a delivery, as they were written."""
    return delivery.addresses or (delivery.recipient,)


def _recipients(message: NewMessage, delivery: NewDelivery) -> Iterable[tuple[str, Recipient]]:
    """Each address of the delivery with its key; one that cannot be suppressed is omitted."""
    for written in addresses_of(delivery):
        address = known_address(message.channel, written)
        if address is not None:
            yield written, Recipient(message.project_id, message.channel, address)


def _marked(message: NewMessage, found: Suppressed) -> NewMessage:
    deliveries: list[NewDelivery] = []
    for delivery in message.deliveries:
        reasons = {
            written: found[recipient] for written, recipient in _recipients(message, delivery) if recipient in found
        }
        deliveries += [delivery] if not reasons else _divided(message, delivery, reasons)
    return message._replace(deliveries=tuple(deliveries))


def _divided(message: NewMessage, delivery: NewDelivery, reasons: Mapping[str, SuppressionReason]) -> list[NewDelivery]:
    detail = describe_suppression(reasons.values())
    left = tuple(address for address in delivery.addresses if address not in reasons)
    if message.channel is not Channel.EMAIL or not left:
        return [delivery._replace(suppressed=detail)]
    stopped = tuple(reasons)
    return [
        delivery._replace(recipient=left[0], envelope=left),
        NewDelivery(uuid7_like(message.id), stopped[0], suppressed=detail, envelope=stopped),
    ]
