"""Templates as they are stored: a kind of content, and a source for each of its parts."""

from __future__ import annotations

from enum import StrEnum

from sluice.model.message import Channel

DATA_PREFIX = "data."
"""A part of the data of a push template: ``data.`` and its key."""


class TemplateKind(StrEnum):
    """The content that a template yields."""

    EMAIL = "email"  # subject, html, text
    TEXT = "text"  # text: SMS, WhatsApp in its 24-hour window, Telegram, Signal
    PUSH = "push"  # subject (the title), text, data

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels whose messages can be made from it."""
        return _CHANNELS[self]


_CHANNELS = {
    TemplateKind.EMAIL: (Channel.EMAIL,),
    TemplateKind.TEXT: (Channel.SMS, Channel.WHATSAPP, Channel.TELEGRAM, Channel.SIGNAL),
    TemplateKind.PUSH: (Channel.PUSH,),
}
