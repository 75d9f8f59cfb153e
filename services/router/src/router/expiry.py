"""The expiry loop: deletes what is older than the installation keeps, apart from the recovery loop, whose pace it must
not slow down.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import asyncpg
import structlog
from pydantic import Field

from sluice.runtime.clock import utc_now
from sluice.store import retention
from sluice.store.db import Pool
from sluice.store.retention import RetentionSettings

log = structlog.get_logger()


class ExpirySettings(RetentionSettings):
    """Settings of the expiry loop."""

    expiry_interval: float = Field(3600.0, gt=0, description="pause between two looks for expired data, seconds")


async def run_expiry(pool: Pool, settings: ExpirySettings) -> None:
    """Delete expired data every ``expiry_interval``, forever; what fails is tried again in the next pass."""
    while True:
        try:
            deleted = await retention.delete_expired(pool, settings.retention_limits(), now=utc_now())
        except asyncpg.SyntaxOrAccessError as error:
            log.warning("expiry_failed", error=str(error))
        else:
            if deleted:
                log.info("expired_data_deleted", **asdict(deleted))
            if deleted.failed:
                log.warning("expiry_failed", failed=deleted.failed)
        await asyncio.sleep(settings.expiry_interval)
