"""Outages as incidents: statuses in, incidents and notices out, and what became of the deliveries that they touched."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from pydantic import ValidationError

from event_worker.events import Event
from sluice.bus.dead_letters import RawRecord
from sluice.bus.messages import ProviderHealth
from sluice.model.incidents import Plan, plan
from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.store import incidents, provider_health, webhook_deliveries
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.incidents import ActiveIncident, Unsearched
from sluice.store.provider_health import PublishedHealth

log = structlog.get_logger()

_RETRY_DELAY = 1.0  # seconds before a batch is consumed again
_INTERVAL = 1.0  # seconds between two looks
_MAX_AGE = 2.0  # seconds of what is known of active incidents; less than _SETTLE
_COUNT_EVERY = 5  # looks between two counts of an incident that touches deliveries
_COUNT_ALL_EVERY = 60  # looks between two counts of all that are active
_SETTLE = timedelta(seconds=5)  # until the events of attempts before an incident was noticed are read by all replicas
_BATCH = 2_000  # deliveries of one statement

# What changes what is known of a delivery: an attempt that began changes nothing yet.
_TYPES = frozenset(EventType) - {
    *(EventType.ACCEPTED, EventType.SENDING, EventType.OPENED, EventType.CLICKED, EventType.READ, EventType.DEFERRED)
}


class Incidents:
    """The incidents of one process: it consumes statuses, and events of deliveries, and looks every second.

    ``on_notice``: called when a webhook is due. Several processes may do the same: one at a time writes.
    """

    def __init__(self, pool: Pool, *, on_notice: Callable[[], None]) -> None:
        self._pool = pool
        self._on_notice = on_notice
        self._active: dict[tuple[UUID, str], list[UUID]] = {}
        self._read_at = -math.inf
        self._uncounted: set[UUID] = set()

    # -- statuses ----------------------------------------------------------------------------------------------------

    async def on_health(self, records: Sequence[RawRecord]) -> None:
        """Record a batch of ``provider.health``, and open or resolve incidents.

        Raises:
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; raised after a pause.
        """
        published = [health for record in records if (health := _read(record)) is not None]
        try:
            for batch in in_steps(published):
                assert failpoints.hit("incidents.before_record")
                await provider_health.record(self._pool, batch)
                assert failpoints.hit("incidents.recorded")
                await self.reconcile()
        except UNAVAILABLE_ERRORS as error:
            log.warning("incidents_retrying", missing="postgres", error=type(error).__name__)
            await asyncio.sleep(_RETRY_DELAY)
            raise

    async def reconcile(self) -> None:
        """Open and resolve what the statuses say, with the notices, in one transaction.

        Raises:
            asyncpg's or the network's errors: nothing was written.
        """
        now = utc_now()
        async with self._pool.acquire() as db, db.transaction():
            await incidents.lock(db)
            plans = [change for state in await incidents.read_channels(db) if (change := plan(state, now))]
            if not plans:
                return
            assert failpoints.hit("incidents.before_write")
            notices = await incidents.write(db, plans, now=now)
            await webhook_deliveries.add_notices(db, [one.id for one in notices], now=now)
        assert failpoints.hit("incidents.written")
        for change in plans:
            _report(change)
        self._on_notice()

    # -- deliveries --------------------------------------------------------------------------------------------------

    async def apply(self, events: Iterable[Event]) -> None:
        """Write what became of the deliveries of a batch of events that an active incident touches.

        Raises:
            Exception: PostgreSQL does not answer, one of ``UNAVAILABLE_ERRORS``; the batch may be repeated.
        """
        if time.monotonic() - self._read_at > _MAX_AGE:
            await self._read_active()
        if not self._active:
            return
        found: dict[UUID, None] = {}
        concerned: set[UUID] = set()
        for event in events:
            active = self._active.get((event.project_id, event.channel.value)) if event.type in _TYPES else None
            if active:
                found[event.delivery_id] = None
                concerned.update(active)
        if found:
            await self._touch(sorted(concerned), list(found))

    async def _touch(self, incident_ids: Sequence[UUID], delivery_ids: Sequence[UUID]) -> None:
        for first in range(0, len(delivery_ids), _BATCH):
            assert failpoints.hit("incidents.before_touch")
            if await incidents.touch(self._pool, incident_ids, delivery_ids[first : first + _BATCH]):
                self._uncounted.update(incident_ids)
            assert failpoints.hit("incidents.touched")

    # -- time --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look for ever; while PostgreSQL is unavailable, the next look finds what this one missed."""
        looks = 0
        while True:
            try:
                await self.look(count=looks % _COUNT_EVERY == 0, count_all=looks % _COUNT_ALL_EVERY == 0)
                looks += 1
            except UNAVAILABLE_ERRORS as error:
                log.warning("incidents_retrying", missing="postgres", error=type(error).__name__)
            await asyncio.sleep(_INTERVAL)

    async def look(self, *, count: bool = True, count_all: bool = True) -> None:
        """Resolve what time has resolved, search earlier deliveries, and count."""
        await self.reconcile()
        active = await self._read_active()
        _measure(active)
        for unsearched in await incidents.list_unsearched(self._pool, noticed_before=utc_now() - _SETTLE):
            await self._search(unsearched)
        known = {one.id for one in active}
        wanted = known if count_all else self._uncounted & known if count else set()
        if wanted:
            self._uncounted -= wanted
            await incidents.count_touched(self._pool, sorted(wanted), now=utc_now())

    async def _read_active(self) -> list[ActiveIncident]:
        active = await incidents.list_active(self._pool, now=utc_now())
        self._active, self._read_at = _by_channel(active), time.monotonic()
        return active

    async def _search(self, unsearched: Unsearched) -> None:
        """Look for the deliveries whose attempts failed before the outage was noticed."""
        await self._touch([unsearched.incident_id], await incidents.find_earlier(self._pool, unsearched))
        await incidents.mark_searched(self._pool, unsearched, now=utc_now())
        self._uncounted.add(unsearched.incident_id)


def in_steps(published: Iterable[ProviderHealth]) -> list[list[PublishedHealth]]:
    """Batches with each provider once, in order: of statuses in a row that are the same, the newest only."""
    rows: dict[UUID, list[PublishedHealth]] = {}
    for health in published:
        row = _row(health)
        own = rows.setdefault(row.provider_id, [])
        if own and (own[-1].status, own[-1].seed_status) == (row.status, row.seed_status):
            own.pop()
        own.append(row)
    longest = max(map(len, rows.values()), default=0)
    return [[own[step] for own in rows.values() if step < len(own)] for step in range(longest)]


def _row(health: ProviderHealth) -> PublishedHealth:
    seed = health.seed
    return PublishedHealth(
        provider_id=health.provider_id,
        project_id=health.project_id,
        status=health.status,
        reason=health.reason,
        changed_at=health.since,
        full_share_at=health.full_share_at,
        suspended_until=health.suspended_until,
        seed_status="healthy" if seed is None else seed.status,
        seed_reason="" if seed is None else seed.reason,
        seed_changed_at=None if seed is None else seed.since,
        error_rate=health.error_rate,
        samples=health.effective_samples,
        updated_at=health.updated_at,
    )


def _read(record: RawRecord) -> ProviderHealth | None:
    if record.value is None:
        return None  # of a provider that was removed: the configuration says so
    try:
        return ProviderHealth.model_validate_json(record.value)
    except ValidationError:
        log.warning("health_record_unreadable", partition=record.partition, offset=record.offset)
        return None


def _by_channel(active: Iterable[ActiveIncident]) -> dict[tuple[UUID, str], list[UUID]]:
    found: dict[tuple[UUID, str], list[UUID]] = {}
    for one in active:
        found.setdefault((one.project_id, one.channel), []).append(one.id)
    return found


def _measure(active: Iterable[ActiveIncident]) -> None:
    numbers = {(channel.value, state): 0 for channel in Channel for state in ("degraded", "down")}
    for one in active:
        if one.is_open:
            numbers[one.channel, "down" if one.has_none else "degraded"] += 1
    for labels, number in numbers.items():
        metrics.series(metrics.OPEN_INCIDENTS, *labels).set(number)


def _report(change: Plan) -> None:
    channel = change.channel
    if change.opened_at is not None:
        metrics.series(metrics.INCIDENTS, channel.channel, "opened").inc()
        log.warning(
            "incident_opened",
            project=str(channel.project_id),
            channel=channel.channel,
            provider=str(change.joined[0].provider_id),
            reason=change.joined[0].reason,
        )
    if change.resolved_at is not None:
        metrics.series(metrics.INCIDENTS, channel.channel, "resolved").inc()
        log.info("incident_resolved", project=str(channel.project_id), channel=channel.channel)
