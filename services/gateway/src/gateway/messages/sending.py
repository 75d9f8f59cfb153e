"""Sending with an answer that says what became of it: a template for one recipient, or for each of many.

The messages take the path of all others; only the waiting is special (:mod:`gateway.messages.waiting`). Every awaited
message has one retry round: its failure is the answer, and the caller decides what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from gateway.auth.principal import Principal
from gateway.channel_configs.service import default_sender
from gateway.errors import (
    ApiError,
    SendCancelled,
    SendFailed,
    TemplateNotFound,
    UnknownTemplate,
    ValidationFailed,
    from_faults,
)
from gateway.ingest.command import SendCommand, TemplateUse, fingerprint
from gateway.ingest.ingest import AcceptedMessage
from gateway.kit.field_names import renamed_fields
from gateway.kit.fields import ChatId, DeviceToken, NamedAddress, Number
from gateway.messages.batch import accept_batch, item_key
from gateway.messages.waiting import Awaited, Results
from gateway.providers.names import PACKAGES, packages_of
from gateway.services import Services
from sluice.model.address import InvalidAddressError, parse_address
from sluice.model.channel_group import ChannelGroup
from sluice.model.ids import InvalidIdError, decode_id
from sluice.model.message import Channel, DeliveryClass
from sluice.model.reasons import Reason
from sluice.model.state import NOT_SENT, State
from sluice.store.messages import DeliveryResult

_FIELDS = {"template_id": "templateId", "preferred_provider": "preferredProvider"}
_DEFAULT_CHANNEL = {
    ChannelGroup.EMAIL: Channel.EMAIL,
    ChannelGroup.MESSAGE: Channel.SMS,
    ChannelGroup.PUSH: Channel.PUSH,
}
_NUMBER: TypeAdapter[str] = TypeAdapter(Number)
_CHAT: TypeAdapter[str] = TypeAdapter(ChatId)
_RECIPIENTS: Mapping[Channel, TypeAdapter[str]] = {
    Channel.EMAIL: TypeAdapter(NamedAddress),
    Channel.SMS: _NUMBER,
    Channel.WHATSAPP: _NUMBER,
    Channel.TELEGRAM: _CHAT,
    Channel.SIGNAL: _CHAT,
    Channel.PUSH: TypeAdapter(DeviceToken),
}


Recipients = Callable[[], Awaitable[Sequence[str]]]
"""How the recipients are found. Where they are not, a repeated request gets the first answer all the same."""


@dataclass(frozen=True, slots=True)
class TemplatedMessage:
    """What every recipient of a request gets. ``preferred``: an id, or a name of the project API or of a package."""

    group: ChannelGroup
    template_id: str
    variables: dict[str, Any]
    preferred: str | None = None
    subject: str | None = None  # of an e-mail: in place of the template's


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The idempotency key of a request, and what the request says: the same key with other fields is refused."""

    key: str | None
    path: str
    document: Mapping[str, Any]

    def of(self, index: int | None = None) -> tuple[str | None, bytes]:
        """Key and fingerprint of the message for the recipient at ``index``, or of the only message."""
        if self.key is None:
            return None, b""
        key = self.key if index is None else item_key(f"{self.path}/{self.key}", index)
        return key, fingerprint({**self.document, "path": self.path})


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one message. ``error``: it was refused, or not sent; ``is_queued``: it is not known in time."""

    message_id: UUID | None
    deliveries: Results = ()
    error: ApiError | None = None
    replayed: bool = False

    @property
    def is_queued(self) -> bool:
        """Whether nothing is known yet."""
        return self.error is None and not self.deliveries

    @property
    def taken(self) -> DeliveryResult | None:
        """The first delivery that a provider has taken."""
        return next((one for one in self.deliveries if one.state not in NOT_SENT), None)


async def send(
    services: Services,
    principal: Principal,
    message: TemplatedMessage,
    recipients: Recipients,
    idempotency: Idempotency,
    *,
    field: str = "to",
) -> Sent:
    """Send one message, a delivery to each of ``recipients``, and wait until all are settled or the time is over.

    ``field``: that of the request with the recipients.

    Raises:
        TemplateNotFound: the project has no such template.
        ValidationFailed: the message does not fit the project or its template; or every recipient is suppressed.
        ApiError: of ``recipients``.
        SendFailed: no provider has taken it.
        SendCancelled: it was cancelled meanwhile.
        QuotaExceeded, IdempotencyConflict, TooManyRequests, Unavailable: nothing was stored.
    """
    services.settled.require_room(1)
    with _errors():
        command = _with_key(_command(services, principal, message), *idempotency.of())
        try:
            command = _addressed(command, [_recipient(command.channel, one, field) for one in await recipients()])
        except ApiError as error:
            command = _with_fault(command, error)
        accepted = await services.ingest.accept(command, principal, source="http")
    sent = (await _wait(services, [accepted]))[0]
    if sent.error is not None:
        raise sent.error
    return sent


async def send_to_each(
    services: Services,
    principal: Principal,
    message: TemplatedMessage,
    recipients: Sequence[str],
    idempotency: Idempotency,
) -> list[Sent]:
    """Send a message to each recipient; what became of each, in their order. A repeated recipient gets one message.

    Raises:
        TemplateNotFound, ValidationFailed: see :func:`send`; what one recipient alone gets wrong is its error, and so
            it is where the request is repeated and some have the first answer.
        TooManyRequests, Unavailable: nothing was stored.
    """
    services.settled.require_room(len(recipients))
    command = _command(services, principal, message)
    assert command.template is not None
    try:
        with _errors():
            command = await services.templates.apply(command, command.template, principal.project_id)
    except ApiError as error:
        command = _with_fault(command, error)
    commands, positions = await asyncio.to_thread(_commands, command, recipients, idempotency)
    accepted = await accept_batch(services, principal, commands)
    if command.fault is not None and not any(isinstance(one, AcceptedMessage) for one in accepted):
        raise command.fault
    sent = await _wait(services, accepted)
    return [sent[position] for position in positions]


def _commands(
    command: SendCommand, recipients: Sequence[str], idempotency: Idempotency
) -> tuple[list[SendCommand], list[int]]:
    """The command of each distinct recipient, and which of them each recipient has."""
    commands: list[SendCommand] = []
    positions: list[int] = []
    known: dict[str, int] = {}
    for index, text in enumerate(recipients):
        try:
            recipient = _recipient(command.channel, text, f"recipients.{index}")
        except ValidationFailed as error:
            positions.append(len(commands))
            commands.append(_with_key(command, *idempotency.of(index))._replace(fault=error))
            continue
        mailbox = _mailbox(command.channel, recipient)
        if mailbox not in known:
            known[mailbox] = len(commands)
            commands.append(_with_key(_addressed(command, [recipient]), *idempotency.of(index)))
        positions.append(known[mailbox])
    return commands, positions


def _mailbox(channel: Channel, recipient: str) -> str:
    with suppress(InvalidAddressError):
        return parse_address(recipient).bare if channel is Channel.EMAIL else recipient
    return recipient


async def _wait(services: Services, accepted: Sequence[AcceptedMessage | ApiError]) -> list[Sent]:
    awaited = [
        Awaited(one.message_id, one.project_id, one.replayed) for one in accepted if isinstance(one, AcceptedMessage)
    ]
    found = await services.settled.wait(awaited)
    return [
        Sent(None, error=one) if isinstance(one, ApiError) else _sent(one, found.get(one.message_id, ()))
        for one in accepted
    ]


def _sent(accepted: AcceptedMessage, results: Results) -> Sent:
    return Sent(accepted.message_id, results, failure_of(results), accepted.replayed)


def failure_of(results: Results) -> ApiError | None:
    """Why no provider has taken any of these deliveries; None where one has, or where there are none."""
    if not results or any(one.state not in NOT_SENT for one in results):
        return None
    if any(one.state is State.CANCELLED for one in results):  # beside those that had ended before
        return SendCancelled("The message was cancelled before it was sent.")
    last = results[-1]
    if last.reason == Reason.SUPPRESSED:
        return ValidationFailed(f"to: {last.error}", field="to")
    match last.state:
        case State.UNCONFIRMED:
            return SendFailed(f"It is not known whether the message was sent: {last.error}")
        case _:
            return SendFailed(f"All providers failed: {last.error}")


# -- commands ------------------------------------------------------------------------------------------------------


def _command(services: Services, principal: Principal, message: TemplatedMessage) -> SendCommand:
    """The command without its recipients; with a fault where the project has no such provider."""
    channel, preferred, fault = _target(services, principal, message.group, message.preferred)
    return SendCommand(
        channel=channel,
        delivery_class=DeliveryClass.STANDARD,
        sender=default_sender(services.config, principal.project_id) if channel is Channel.EMAIL else None,
        recipients=(),
        content=_content(message.group, message.subject),
        attachments=(),
        tags=(),
        metadata=None,
        preferred_provider=preferred,
        send_at=None,
        expires_at=None,
        idempotency_key=None,
        fingerprint=b"",
        template=TemplateUse(message.template_id, message.variables),
        awaited=True,
        fault=fault,
    )


def _content(group: ChannelGroup, subject: str | None) -> dict[str, Any]:
    """The fields of the channel's content that the template does not yield."""
    match group:
        case ChannelGroup.EMAIL:
            empty: dict[str, Any] = {"to": [], "cc": [], "bcc": [], "attachments": []}
            return empty | {"reply_to": None, "subject": subject, "html": None, "text": None}
        case ChannelGroup.MESSAGE:
            return {"text": None}
        case ChannelGroup.PUSH:
            return {"title": None, "text": None, "image": None, "data": {}, "platform": {}}


def _addressed(command: SendCommand, recipients: Sequence[str]) -> SendCommand:
    if command.channel is Channel.EMAIL:
        return command._replace(recipients=recipients, content={**command.content, "to": list(recipients)})
    return command._replace(recipients=recipients)


def _with_key(command: SendCommand, key: str | None, digest: bytes) -> SendCommand:
    return command if key is None else command._replace(idempotency_key=key, fingerprint=digest)


def _with_fault(command: SendCommand, error: ApiError) -> SendCommand:
    """The first fault of the command stays: what follows may come from it."""
    return command._replace(fault=command.fault or error)


def _recipient(channel: Channel, text: str, field: str) -> str:
    try:
        return _RECIPIENTS[channel].validate_python(text)
    except ValidationError as error:
        raise ValidationFailed(f"{field}: {from_faults(error.errors(), without=())}", field=field) from None


def _target(
    services: Services, principal: Principal, group: ChannelGroup, name: str | None
) -> tuple[Channel, str | None, ValidationFailed | None]:
    """The channel of the message, the provider to try first, as :class:`SendCommand` names it, and what is wrong with
    it: the project has no such provider for these channels.
    """
    if name is None:
        return _DEFAULT_CHANNEL[group], None, None
    unknown = ValidationFailed("preferredProvider: the project has no such provider", field="preferredProvider")
    with suppress(InvalidIdError):
        row = services.config.providers.get(decode_id("prv", name))
        if row and row.project_id == principal.project_id and row.channel in group.channels:
            return Channel(row.channel), name, unknown if row.deleted else None
    package = PACKAGES.get(name, name)
    known = packages_of(group)
    channels = [
        channel
        for found in known.values()
        if found.name == package
        for channel in found.channels
        if channel in group.channels
    ]
    for channel in channels:
        if any(one.package == package for one in services.config.candidates(principal.project_id, channel)):
            return channel, package, None
    if channels and principal.is_test:  # the sandbox is the provider of every channel
        return channels[0], None, None
    if channels:
        return channels[0], None, unknown
    text = f"preferredProvider: must be one of {', '.join(known)}, or a provider's id"
    return _DEFAULT_CHANNEL[group], None, ValidationFailed(text, field="preferredProvider")


@contextmanager
def _errors() -> Iterator[None]:
    """Errors of the shared path as the project API has them."""
    with renamed_fields(_FIELDS):
        try:
            yield
        except UnknownTemplate:
            raise TemplateNotFound("Template not found") from None
