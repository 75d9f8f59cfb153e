"""Renewal of attempt leases while calls run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection
from datetime import timedelta

from sluice.delivery.job import Job
from sluice.runtime import failpoints
from sluice.store import deliveries
from sluice.store.db import UNAVAILABLE_ERRORS, Db

_GRACE = 2.0  # seconds after the limit of a step in which its call ends by itself


async def renew_leases(db: Db, in_flight: Collection[Job], lease: float) -> None:
    """Renew the leases of claimed jobs while their calls make progress, forever; ``lease`` is their length in seconds.

    Most calls end before the first renewal. A lease that is not renewed, because PostgreSQL is unavailable or because
    a step of the call outlasts its time limit, expires, and the recovery loop settles the attempt as unknown.

    From the first renewal on, the lease alone keeps the attempt. Its record is acknowledged, so that a slow call holds
    back neither the offset of its partition nor the low watermark of its channel.
    """
    while True:
        await asyncio.sleep(lease / 6)
        now = time.monotonic()
        slow = [job for job in in_flight if now - job.claimed_at > lease / 3 and now < job.renew_until + _GRACE]
        if not slow:
            continue
        assert failpoints.hit("lease.before_renew")
        with contextlib.suppress(*UNAVAILABLE_ERRORS):
            await deliveries.renew(db, [job.attempt for job in slow], lease=timedelta(seconds=lease))
            for job in slow:
                job.record.ack()
        assert failpoints.hit("lease.renewed")
