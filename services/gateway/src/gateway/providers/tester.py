"""Test calls: one real message through one account, outside routing. It has no row and no history."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from gateway.errors import TooManyRequests, Unavailable, ValidationFailed
from gateway.messages.v1_schemas import to_command
from gateway.providers.v1_schemas import TestMessageRequest
from sluice.delivery.tokens import TokenCache
from sluice.model import ids
from sluice.model.message import Channel, content_adapter
from sluice.model.outcome import Accepted, Divided, Outcome
from sluice.providers.account import Account
from sluice.providers.contract import OutboundMessage, TransportKind
from sluice.runtime.clock import utc_now
from sluice.transports.opening import open_transports
from sluice.transports.provider_call import Transports
from sluice.transports.settings import TransportSettings

_TIMEOUT = 15.0  # seconds for the call, connecting included
_CONCURRENCY = 8  # test calls at once in one gateway
_TEXT = "This is a test message from Sluice."
_TESTABLE = (TransportKind.HTTP, TransportKind.SMTP)


class CallResult(NamedTuple):
    """The outcome of a test call and how long it took, in seconds."""

    outcome: Outcome
    duration: float

    @property
    def accepted(self) -> bool:
        """Whether the provider took the message."""
        return isinstance(self.outcome, Accepted)


class ProviderTester:
    """Makes the test calls of one gateway, within ``limits``."""

    def __init__(self, limits: TransportSettings) -> None:
        self._limits = limits
        self._transports: Transports | None = None
        self._running = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ProviderTester]:
        """Make calls until the block ends."""
        async with open_transports(limits=self._limits) as transports:
            self._transports = transports
            yield self

    async def call(
        self, account: Account, channel: Channel, request: TestMessageRequest, *, default_sender: str | None
    ) -> CallResult:
        """Send one message through the account.

        Raises:
            ValidationFailed: the message is not one of the channel, or the package sends through no connection of the
                gateway.
            TooManyRequests: too many test calls run.
        """
        if account.package.transport not in _TESTABLE:
            raise ValidationFailed(f"{account.package.name} cannot be tested: send a message instead.")
        message = outbound_message(channel, request, default_sender)
        if self._transports is None:
            raise Unavailable("The gateway is starting. Retry later.")
        if self._running >= _CONCURRENCY:
            raise TooManyRequests("Too many test calls run at once. Retry later.")
        self._running += 1
        started = time.monotonic()
        try:
            # A cache for this call only: a token of the credentials under test serves no other call.
            result = await TokenCache(self._transports).call(account, message, deadline=_TIMEOUT)
        finally:
            self._running -= 1
        outcome = result.parts[0].outcome if isinstance(result, Divided) else result
        return CallResult(outcome, time.monotonic() - started)


def outbound_message(channel: Channel, request: TestMessageRequest, default_sender: str | None) -> OutboundMessage:
    """The test message.

    Raises:
        ValidationFailed: it is not a message of the channel; the field is named.
    """
    command = to_command(orjson.dumps(_send_request(channel, request)))
    sender = command.sender or (default_sender if channel is Channel.EMAIL else None)
    if channel is Channel.EMAIL and sender is None:
        raise ValidationFailed("from: is required, because the project has no default sender", field="from")
    try:
        content = content_adapter.validate_python({"channel": channel.value, "sender": sender, **command.content})
    except ValidationError as error:  # the content of the channel needs a sender
        raise ValidationFailed("from: is required", field="from") from error
    now, message_id = utc_now(), ids.uuid7()
    return OutboundMessage(
        content=content,
        recipient=command.recipients[0],
        reference=ids.attempt_reference(ids.uuid7_like(message_id), 1),
        message_id=ids.encode_id("msg", message_id),
        created_at=now,
        attempted_at=now,
    )


def _send_request(channel: Channel, request: TestMessageRequest) -> Mapping[str, Any]:
    fields: dict[str, Any] = {
        "channel": channel.value,
        "to": [request.to],
        "from": request.from_,
        "channel_options": request.channel_options,
        "text": request.text,
        "subject": request.subject,
    }
    if request.text is None and request.channel_options is None:
        fields["text"] = _TEXT
    if request.subject is None and channel in (Channel.EMAIL, Channel.PUSH):
        fields["subject"] = "Test message"
    return {name: value for name, value in fields.items() if value is not None}
