"""The wiring of the e-mail worker."""

from __future__ import annotations

from sluice.bus.topics import Group
from sluice.delivery.bootstrap import run_worker
from sluice.model.message import Channel


async def main() -> None:
    """Deliver e-mail until shutdown is requested."""
    await run_worker("email-worker", Group.EMAIL_WORKER, [Channel.EMAIL])
