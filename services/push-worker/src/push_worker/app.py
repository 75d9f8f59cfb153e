"""The wiring of the push worker."""

from __future__ import annotations

from sluice.bus.topics import Group
from sluice.delivery.bootstrap import run_worker
from sluice.model.message import Channel


async def main() -> None:
    """Deliver push notifications until shutdown is requested."""
    await run_worker("push-worker", Group.PUSH_WORKER, [Channel.PUSH])
