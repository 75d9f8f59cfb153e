"""Groups of channels that the project API configures together."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sluice.model.message import Channel


class ChannelGroup(StrEnum):
    """A group of channels, as the paths of the project API name it: ``/email-config``."""

    EMAIL = "email"
    MESSAGE = "message"
    PUSH = "push"

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of the group."""
        return tuple(channel for channel, group in GROUP_OF.items() if group is self)


GROUP_OF: Mapping[Channel, ChannelGroup] = {
    Channel.EMAIL: ChannelGroup.EMAIL,
    Channel.SMS: ChannelGroup.MESSAGE,
    Channel.WHATSAPP: ChannelGroup.MESSAGE,
    Channel.TELEGRAM: ChannelGroup.MESSAGE,
    Channel.SIGNAL: ChannelGroup.MESSAGE,
    Channel.PUSH: ChannelGroup.PUSH,
}
"""The group of each channel."""
