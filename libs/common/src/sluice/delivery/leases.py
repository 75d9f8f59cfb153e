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


async def renew_leases(db: Db, in_flight: Collection[Job], lease: float) -> None:
    """Renew the leases of claimed jobs, forever; ``lease`` is their length in seconds.

    Most calls end before the first renewal. A lease that cannot be renewed expires, and the recovery loop settles its
    attempt as unknown.
    """
    while True:
        await asyncio.sleep(lease / 6)
        now = time.monotonic()
        attempts = [job.attempt for job in in_flight if now - job.claimed_at > lease / 3]
        if not attempts:
            continue
        assert failpoints.hit("lease.before_renew")
        with contextlib.suppress(*UNAVAILABLE_ERRORS):
            await deliveries.renew(db, attempts, lease=timedelta(seconds=lease))
        assert failpoints.hit("lease.renewed")
