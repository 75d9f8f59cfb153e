"""Retries of failed deliveries: a new message with the same content, so that the history of the first one stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from gateway.auth.principal import Principal
from gateway.delivery_log.service import NOT_FOUND
from gateway.errors import ApiError, NotFound, NotRetryable, Unavailable
from gateway.ingest.command import SendCommand, fingerprint
from gateway.ingest.ingest import Accepted, AcceptedMessage
from gateway.kit.transactions import transaction
from gateway.messages.batch import accept_batch
from gateway.messages.service import list_messages
from gateway.services import Services
from sluice.model.ids import InvalidIdError, decode_id
from sluice.model.message import Channel, DeliveryClass
from sluice.model.state import NOT_SENT, State
from sluice.runtime.clock import utc_now
from sluice.store import ingest, messages
from sluice.store.message_list import Filters, Position
from sluice.store.messages import StoredDelivery

_RETRYABLE = (NOT_SENT | {State.BOUNCED, State.SOFT_BOUNCE}) - {State.CANCELLED}
_CHUNK = 100  # deliveries whose contents are in memory at once
_CHUNK_BYTES = 4 << 20  # of their contents, or a single one
_MAX_DELIVERIES = 1_000  # that one call sends again, or those of a single message
_OWN = frozenset({"channel", "sender", "unsubscribe_url"})  # fields of a content that are made for each message
_EMPTY: dict[Channel, dict[str, Any]] = {
    Channel.EMAIL: {"to": [], "cc": [], "bcc": [], "attachments": []},
    Channel.PUSH: {"data": {}},
}


async def retry(
    services: Services, principal: Principal, channels: Sequence[Channel], entries: Sequence[str]
) -> list[Accepted]:
    """Send failed deliveries of these channels again; what became of each, in their order.

    ``entries``: ids of the delivery log. An entry is retried once: a retry that fails has an entry of its own. What
    cannot be retried is an error: NotFound, NotRetryable, or one of the new message.

    Raises:
        Unavailable: nothing was stored. Where only some could not be, it is the result of these.
    """
    wanted = [_id(text) for text in entries]
    known = list(dict.fromkeys(one for one in wanted if one is not None))
    results: dict[UUID, Accepted] = {}
    for chunk in await _chunks(services, principal, known):
        try:
            results |= await _send(services, principal, await _prepare(services, principal, channels, chunk))
        except Unavailable as error:
            if not any(isinstance(one, AcceptedMessage) for one in results.values()):
                raise
            results |= dict.fromkeys(chunk, error)
    return [NotFound(NOT_FOUND) if one is None else results[one] for one in wanted]


class Retried(NamedTuple):
    """A failed delivery, and what became of its retry; None: it would be sent again, in a dry run."""

    delivery_id: UUID
    message_id: UUID
    result: Accepted | None


class RetriedPage(NamedTuple):
    """The failed deliveries of some messages, and where the next messages begin; None at the end."""

    deliveries: list[Retried]
    next: Position | None


async def retry_matching(
    services: Services, principal: Principal, filters: Filters, *, limit: int, position: Position | None, dry_run: bool
) -> RetriedPage:
    """Send the failed deliveries of at most ``limit`` messages again, those of the newest message first.

    A message has up to a thousand: the page is read again with fewer messages while they have more than a call sends.
    A dry run sends nothing, and checks neither the quota, the channel's configuration nor the sender's domain.

    Raises:
        Unavailable: not all were sent again. Repeated with the same position, the call sends the others.
    """
    while True:
        page = await list_messages(services, principal.scope, filters, limit=limit, position=position)
        ids = [row.id for row in page.messages]
        most = None if limit == 1 else _MAX_DELIVERIES + 1
        async with transaction(services.pool, principal.project_id) as db:
            owners = await messages.find_deliveries(db, principal.scope, ids, sorted(_RETRYABLE), limit=most)
        if limit == 1 or len(owners) <= _MAX_DELIVERIES:
            break
        limit = max(1, ids.index(list(owners.values())[-1]))  # without the message whose deliveries are too many
    results: dict[UUID, Accepted | None] = {}
    for chunk in await _chunks(services, principal, list(owners)):
        commands = await _prepare(services, principal, tuple(Channel), chunk)
        results |= await (_rehearse if dry_run else _send)(services, principal, commands)
    return RetriedPage([Retried(one, owners[one], result) for one, result in results.items()], page.next)


_Commands = dict[UUID, SendCommand | ApiError]
_Content = dict[str, Any]


async def _chunks(services: Services, principal: Principal, delivery_ids: Sequence[UUID]) -> list[list[UUID]]:
    """The deliveries in parts, each with as many contents as may be in memory at once."""
    async with transaction(services.pool, principal.project_id) as db:
        sizes = await messages.find_content_sizes(db, principal.scope, delivery_ids)
    return list(_divided(delivery_ids, sizes))


def _divided(delivery_ids: Sequence[UUID], sizes: Mapping[UUID, int]) -> Iterator[list[UUID]]:
    chunk: list[UUID] = []
    total = 0
    for one in delivery_ids:
        size = sizes.get(one, 0)
        if chunk and (len(chunk) >= _CHUNK or total + size > _CHUNK_BYTES):
            yield chunk
            chunk, total = [], 0
        chunk.append(one)
        total += size
    if chunk:
        yield chunk


async def _prepare(
    services: Services, principal: Principal, channels: Sequence[Channel], delivery_ids: Sequence[UUID]
) -> _Commands:
    async with transaction(services.pool, principal.project_id) as db:
        found = await messages.find_for_retry(db, principal.scope, delivery_ids)
    contents = await asyncio.to_thread(_decoded, found)
    digests = {one["sha256"] for content in contents.values() for one in content.get("attachments", ())}
    async with transaction(services.pool, principal.project_id) as db:
        kept = await messages.keep_attachments(db, principal.project_id, sorted(digests), now=utc_now())
    return {one: _command(found.get(one), contents.get(one, {}), channels, kept) for one in delivery_ids}


def _decoded(found: Mapping[UUID, StoredDelivery]) -> dict[UUID, _Content]:
    return {delivery_id: orjson.loads(delivery.content) for delivery_id, delivery in found.items()}


async def _send(services: Services, principal: Principal, commands: _Commands) -> dict[UUID, Accepted]:
    accepted = await accept_batch(services, principal, list(commands.values()))
    return {
        one: _retried(result.message_id) if isinstance(result, AcceptedMessage) and result.replayed else result
        for one, result in zip(commands, accepted, strict=True)
    }


async def _rehearse(services: Services, principal: Principal, commands: _Commands) -> dict[UUID, ApiError | None]:
    async with transaction(services.pool, principal.project_id) as db:
        owners = await ingest.find_owners(db, principal.scope, [_key(one) for one in commands], now=utc_now())
    return {
        one: _retried(owners[_key(one)][0])
        if _key(one) in owners
        else (command if isinstance(command, ApiError) else None)
        for one, command in commands.items()
    }


def _retried(message_id: UUID) -> NotRetryable:
    return NotRetryable(f"The delivery was retried already, as the message {message_id}.")


def _key(delivery_id: UUID) -> str:
    return f"\x1fretry/{delivery_id}"  # no caller can write it: it begins with a control character


def _id(text: str) -> UUID | None:
    with suppress(InvalidIdError):
        return decode_id("dlv", text)
    return None


def _command(
    delivery: StoredDelivery | None, stored: _Content, channels: Sequence[Channel], kept: Set[str]
) -> SendCommand | ApiError:
    if delivery is None or delivery.channel not in channels:
        return NotFound(NOT_FOUND)
    if delivery.state not in _RETRYABLE:
        return NotRetryable("Only a delivery that has failed can be retried.")
    if not stored or any(one["sha256"] not in kept for one in stored.get("attachments", ())):
        return NotRetryable("The content of the message is not stored any more.")
    content = {
        **_EMPTY.get(delivery.channel, {}),
        **{name: value for name, value in stored.items() if name not in _OWN},
    }
    if delivery.channel is Channel.EMAIL and delivery.envelope is not None:
        content |= {"to": list(delivery.envelope), "cc": [], "bcc": []}
    recipients = [delivery.recipient]
    if delivery.channel is Channel.EMAIL:
        recipients = [", ".join(content["to"])[:2000]]
    return SendCommand(
        channel=delivery.channel,
        delivery_class=DeliveryClass(delivery.delivery_class),
        sender=delivery.sender,
        recipients=recipients,
        content=content,
        attachments=(),  # the content refers to those that are stored
        tags=delivery.tags,
        metadata=delivery.metadata,
        preferred_provider=None,
        send_at=None,
        expires_at=None,
        idempotency_key=_key(delivery.id),
        fingerprint=fingerprint({"retry": str(delivery.id)}),
        template_id=delivery.template_id,
        template_version=delivery.template_version,
        unsubscribe="unsubscribe_url" in stored,
    )
