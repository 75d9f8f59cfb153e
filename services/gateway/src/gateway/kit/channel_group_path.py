"""The channel group in the paths of the project API."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from sluice.model.channel_group import ChannelGroup


async def _group_of_path(request: Request) -> ChannelGroup:
    """The group with which the path of a route begins: ``/email-config/…``."""
    return ChannelGroup(request.scope["path"][1:].partition("-config")[0])


GroupInPath = Annotated[ChannelGroup, Depends(_group_of_path)]
