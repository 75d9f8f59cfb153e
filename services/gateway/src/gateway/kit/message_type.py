"""The kinds of messages of the project API."""

from __future__ import annotations

from enum import StrEnum

from sluice.model.message import Channel


class MessageType(StrEnum):
    """The kind of a message; ``app``: WhatsApp, Telegram, Signal."""

    EMAIL = "email"
    SMS = "sms"
    APP = "app"
    PUSH = "push"

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of the kind."""
        return tuple(channel for channel, kind in TYPE_OF.items() if kind is self)


TYPE_OF = {
    Channel.EMAIL: MessageType.EMAIL,
    Channel.SMS: MessageType.SMS,
    Channel.WHATSAPP: MessageType.APP,
    Channel.TELEGRAM: MessageType.APP,
    Channel.SIGNAL: MessageType.APP,
    Channel.PUSH: MessageType.PUSH,
}
"""The kind of each channel."""
