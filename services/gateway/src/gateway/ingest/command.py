"""A send request without the shape of an API: every API parses its own body into a :class:`SendCommand`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from gateway.errors import ApiError
from sluice.model.address import parse_address
from sluice.model.gsm7 import segment_count
from sluice.model.ids import milliseconds_of, uuid7, uuid7_like
from sluice.model.message import Channel, DeliveryClass, encode_content_unchecked
from sluice.model.terms import terms_of
from sluice.store.ingest import NewDelivery, NewMessage

DEFAULT_LIFETIME = {
    DeliveryClass.URGENT: timedelta(minutes=10),
    DeliveryClass.STANDARD: timedelta(hours=72),
    DeliveryClass.ONCE: timedelta(hours=72),
}
MAX_LIFETIME = timedelta(days=30)


class TemplateUse(NamedTuple):
    """The stored template that yields a message's content. ``id`` is public, and unknown until it is looked up."""

    id: str
    variables: dict[str, Any]  # JSON


class SendCommand(NamedTuple):
    """One message to send. The texts are validated; what depends on the project and on the time is not yet.

    ``fault``: why there is no message to send, by what the project has now. It is the answer unless the command repeats
    a request with its idempotency key, which gets the first answer.
    """

    channel: Channel
    delivery_class: DeliveryClass
    sender: str | None  # None: the project's default sender, where the channel has one
    recipients: Sequence[str]  # one delivery each
    content: Mapping[str, Any]  # the fields of the channel's content in sluice.model.message, except the sender
    attachments: tuple[tuple[str, bytes], ...]  # (sha256, content) of the files that the content refers to
    tags: Sequence[str]
    metadata: str | None  # JSON
    preferred_provider: str | None  # the id of a provider, or the name of a package
    send_at: datetime | None
    expires_at: datetime | None
    idempotency_key: str | None
    fingerprint: bytes  # see fingerprint(); empty without an idempotency key
    submitted_at: datetime | None = None  # when the caller let go of the request, if that is not now
    template: TemplateUse | None = None  # to be rendered: what the content lacks
    template_id: UUID | None = None  # what the content was rendered from
    template_version: int | None = None
    unsubscribe: bool = False  # an e-mail with a link with which its recipient unsubscribes
    bulk_id: str | None = None  # the public id of the bulk job that it belongs to
    awaited: bool = False  # the caller waits for what becomes of it: there is one retry round
    fault: ApiError | None = None


_LISTS = ("to", "cc", "bcc")


def fingerprint(document: Mapping[str, Any]) -> bytes:
    """SHA-256 of the meaning of a request.

    White space, the order of keys and the idempotency key do not count; an empty list is the absence of the field, as
    null is (``document`` has none), and a single recipient is a list of one. Numbers in metadata count as they are
    written, 1 and 1.0 differ.
    """
    means = {
        name: [value] if name in _LISTS and isinstance(value, str) else value
        for name, value in document.items()
        if value != [] and name != "idempotency_key"
    }
    return hashlib.sha256(orjson.dumps(means, option=orjson.OPT_SORT_KEYS)).digest()


Link = Callable[[UUID, str], str]
"""The link with which the recipient of a delivery, an address, unsubscribes."""


def to_new_message(
    command: SendCommand,
    *,
    project_id: UUID,
    sender: str | None,
    sandbox: bool,
    preferred_provider_id: UUID | None,
    now: datetime,
    requeue_after: timedelta,
    unsubscribe_link: Link,
    with_addresses: bool,  # of an e-mail, which costs a parse of each
) -> NewMessage:
    """The message that ``command`` becomes at ``now``, which is as exact as an id: in whole milliseconds."""
    message_id = uuid7(milliseconds_of(now))
    deliveries = _deliveries(command, message_id, with_addresses or command.unsubscribe)
    return NewMessage(
        id=message_id,
        project_id=project_id,
        channel=command.channel,
        delivery_class=command.delivery_class,
        sender=sender,
        content=encode_content_unchecked(_content(command, sender, deliveries, unsubscribe_link)),
        deliveries=deliveries,
        created_at=now,
        expires_at=command.expires_at or (command.send_at or now) + DEFAULT_LIFETIME[command.delivery_class],
        due_at=command.send_at or now + requeue_after,
        send_at=command.send_at,
        tags=tuple(command.tags),
        metadata=command.metadata,
        preferred_provider_id=preferred_provider_id,
        sandbox=sandbox,
        idempotency_key=command.idempotency_key,
        fingerprint=command.fingerprint,
        attachments=command.attachments,
        template_id=command.template_id,
        template_version=command.template_version,
        awaited=command.awaited,
        terms=_terms(command, sender, sandbox),
        segments=_segments(command),
    )


def _segments(command: SendCommand) -> int | None:
    if command.channel is not Channel.SMS:
        return None
    segments = segment_count(command.content["text"])
    return segments if segments > 1 else None


def _terms(command: SendCommand, sender: str | None, sandbox: bool) -> tuple[int, ...]:
    recipients = command.recipients
    if command.channel is Channel.EMAIL:  # which has one delivery for all
        recipients = [address for name in _LISTS for address in command.content[name]]
    return terms_of(sender=sender, recipients=recipients, tags=command.tags, bulk=command.bulk_id, sandbox=sandbox)


def _content(
    command: SendCommand, sender: str | None, deliveries: Sequence[NewDelivery], unsubscribe_link: Link
) -> dict[str, Any]:
    content = {"channel": command.channel.value, "sender": sender, **command.content}
    if command.unsubscribe:
        content["unsubscribe_url"] = unsubscribe_link(deliveries[0].id, deliveries[0].addresses[0])
    return content


def _deliveries(command: SendCommand, message_id: UUID, with_addresses: bool) -> tuple[NewDelivery, ...]:
    deliveries = [NewDelivery(uuid7_like(message_id), recipient) for recipient in command.recipients]
    if command.channel is Channel.EMAIL and with_addresses:
        addresses = tuple([parse_address(text).bare for name in _LISTS for text in command.content[name]])
        deliveries = [deliveries[0]._replace(addresses=addresses)]
    return tuple(deliveries)
