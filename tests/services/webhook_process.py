"""``python -m tests.services.webhook_process``: the webhook sender of an event-worker, alone in a process."""

import asyncio

from event_worker.app import open_webhooks
from event_worker.settings import EventWorkerSettings
from sluice.runtime.settings import load
from sluice.store.db import open_pool


async def main() -> None:
    """Send what is due for ever."""
    settings = load(EventWorkerSettings)
    database = open_pool(settings.postgres_dsn, size=2, name="webhooks")
    async with database as pool, open_webhooks(settings, pool) as sender:
        await sender.run()


if __name__ == "__main__":
    asyncio.run(main())
