"""The worker of push notifications."""

from __future__ import annotations

from sluice.bus.topics import Group
from sluice.delivery.bootstrap import run_worker
from sluice.model.message import Channel


async def main() -> None:
    """Carry push notifications."""
    await run_worker("push-worker", Group.PUSH_WORKER, [Channel.PUSH])
