"""``python -m tests.services.analytics_process EVENTS``: the projection of analytics, alone in a process.

``EVENTS``: a file with the fields of the events, as JSON. They are applied in batches, again and again.
"""

import asyncio
import itertools
import os
import sys
from pathlib import Path

from pydantic import TypeAdapter

from event_worker.analytics import AnalyticsProjection
from event_worker.events import Event
from sluice.store.db import open_pool

_BATCH = 30


async def main(events: list[Event]) -> None:
    """Count for ever."""
    async with open_pool(os.environ["SLUICE_POSTGRES_DSN"], size=2, name="analytics") as pool:
        projection = AnalyticsProjection(pool)
        for first in itertools.cycle(range(0, len(events), _BATCH)):
            await projection.apply(events[first : first + _BATCH])
            print(first, flush=True)


if __name__ == "__main__":
    asyncio.run(main(TypeAdapter(list[Event]).validate_json(Path(sys.argv[1]).read_bytes())))
