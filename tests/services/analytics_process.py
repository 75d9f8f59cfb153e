"""``python -m tests.services.analytics_process EVENTS``: the projection of analytics, alone in a process.

``EVENTS``: a file with the fields of the events, as JSON. They are applied in batches, again and again.
"""

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

from event_worker.analytics import AnalyticsProjection
from sluice.store.db import open_pool

_BATCH = 30


async def main(events: list[dict[str, Any]]) -> None:
    """Count for ever."""
    async with open_pool(os.environ["SLUICE_POSTGRES_DSN"], size=2, name="analytics") as pool:
        projection = AnalyticsProjection(pool)
        for first in itertools.cycle(range(0, len(events), _BATCH)):
            await projection.apply(events[first : first + _BATCH])
            print(first, flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
