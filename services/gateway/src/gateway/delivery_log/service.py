"""The delivery log of a project."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from gateway.auth.principal import Principal
from gateway.errors import NotFound
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model.channel_group import ChannelGroup
from sluice.model.ids import InvalidIdError, decode_id, min_id_at
from sluice.runtime.clock import utc_now
from sluice.store import delivery_log
from sluice.store.delivery_log import Attempt, LogEntry, LogFilters, LogPage, QueueStatistics

STATISTICS_WINDOW = timedelta(hours=24)
"""The age of the oldest message that counts as failed or completed in the statistics of a queue."""

NOT_FOUND = "Delivery log entry not found"


async def list_entries(
    services: Services, principal: Principal, filters: LogFilters, *, offset: int, limit: int
) -> LogPage:
    """A page of the log.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await delivery_log.list_entries(db, principal.scope, filters, offset=offset, limit=limit)


async def find_entry(services: Services, principal: Principal, text: str) -> tuple[LogEntry, Sequence[Attempt]]:
    """The entry with this id, and the attempts of its delivery.

    Raises:
        NotFound: the project has no such entry.
        Unavailable: PostgreSQL does not answer.
    """
    found = None
    with suppress(InvalidIdError):
        delivery_id = decode_id("dlv", text)
        async with transaction(services.pool, principal.project_id) as db:
            found = await delivery_log.find_entry(db, principal.scope, delivery_id)
    if found is None:
        raise NotFound(NOT_FOUND)
    return found


async def count_queue(services: Services, principal: Principal, group: ChannelGroup) -> QueueStatistics:
    """The statistics of the project's queue of a group of channels.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    since = min_id_at(utc_now() - STATISTICS_WINDOW)
    async with transaction(services.pool, principal.project_id) as db:
        return await delivery_log.count_queue(db, principal.scope, group.channels, since=since)
