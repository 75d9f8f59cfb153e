"""The worker of e-mail."""

from __future__ import annotations

from sluice.bus.topics import Group
from sluice.delivery.bootstrap import run_worker
from sluice.model.message import Channel


async def main() -> None:
    """Carry e-mail."""
    await run_worker("email-worker", Group.EMAIL_WORKER, [Channel.EMAIL])
