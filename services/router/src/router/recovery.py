"""Nothing stands still: what is due and not on the conveyor is driven again.

One loop is the outbox relay, the retry scheduler, the scheduled send, the crash recovery, and the recovery from a
wiped Kafka. Any number of routers may run it: rows are taken with SKIP LOCKED, and every step is compare-and-set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg
import structlog
from aiokafka.errors import KafkaError
from pydantic import Field

from sluice.bus.messages import Drive, Repeat
from sluice.bus.publisher import Publication, Publisher, acknowledged
from sluice.bus.topic_admin import Conveyor
from sluice.bus.topics import Topic
from sluice.delivery.outbox import announce_again
from sluice.delivery.retry_policy import Timing, conclude, expire
from sluice.delivery.sandbox import SANDBOX_ID
from sluice.delivery.settlement import Settlement, Settler
from sluice.model.message import Channel
from sluice.model.outcome import Unknown
from sluice.providers import registry
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.settings import ConveyorSettings
from sluice.store import backlog, deliveries, ingest, outbox, partitions
from sluice.store.config_cache import Configuration
from sluice.store.db import UNAVAILABLE, Pool
from sluice.store.deliveries import Standing

log = structlog.get_logger()

_BATCH = 500
_QUEUES = 200  # looked at at once
_KEYS = 5_000  # idempotency keys that one look forgets at the most


class RecoverySettings(Timing, ConveyorSettings):
    """Settings of the recovery loop."""

    recovery_every: float = Field(1.0, gt=0, description="pause between looks for what is due, seconds")
    room_every: float = Field(0.1, gt=0, description="the same while somebody waits for room on the conveyor, seconds")
    partitions_every: float = Field(3600.0, gt=0, description="pause between looks for missing partitions, seconds")


class Recovery:
    """The loop. ``round`` does one look and can be called by itself in tests."""

    def __init__(
        self,
        *,
        pool: Pool,
        configuration: Configuration,
        publisher: Publisher,
        settler: Settler,
        conveyor: Conveyor,
        settings: RecoverySettings,
    ) -> None:
        self._pool = pool
        self._configuration = configuration
        self._publisher = publisher
        self._settler = settler
        self._conveyor = conveyor
        self._settings = settings
        self._served: dict[Channel, backlog.Queue] = {}  # up to whom, where there were too many for one look
        self._kept_house: datetime | None = None
        self._keys_left = True  # keys that are over may still be there
        self._redrive = timedelta(seconds=settings.redrive)
        self._every = timedelta(seconds=settings.partitions_every)

    async def run(self) -> None:
        """Look, pause, look again, for ever; an outage of Postgres or Kafka is waited out."""
        while True:
            pause = self._settings.recovery_every
            try:
                if await self.round():
                    pause = min(pause, self._settings.room_every)
            except UNAVAILABLE as error:
                log.warning("recovery_waits", missing="postgres", error=type(error).__name__)
            except KafkaError as error:
                log.warning("recovery_waits", missing="kafka", error=type(error).__name__)
            except asyncpg.PostgresError:
                log.exception("recovery_failed")
            await asyncio.sleep(pause)

    async def round(self) -> bool:
        """One look at everything that may stand still; true if somebody still waits for room on the conveyor."""
        now = utc_now()
        await self._keep_house(now)
        oldest = await deliveries.oldest(self._pool)
        metrics.BEHIND_SECONDS.set(max(0.0, (now - oldest.due_at).total_seconds()) if oldest.due_at else 0.0)
        crowded = False
        if oldest.due_at is not None and oldest.due_at <= now:
            await self._end_lapsed(now)
            crowded = await self._drive_waiting(now)
        if oldest.published_at is not None and oldest.published_at <= now - self._redrive:
            low_water = await self._conveyor.low_water()
            assert failpoints.at("recovery.low_water")
            await self._drive_fallen(now, low_water)
        await self._announce_overdue(now)
        return crowded

    async def _drive_waiting(self, now: datetime) -> bool:
        """Fill the conveyor with what is due; true if there was no room for all of it."""
        room = dict.fromkeys(Channel, self._settings.conveyor)
        for part, held in (await backlog.on_conveyor(self._pool)).items():
            room[part.channel] -= held
        left = [await self._fill(channel, free, now) for channel, free in room.items()]
        return min(left) <= 0

    async def _fill(self, channel: Channel, free: int, now: datetime) -> int:
        """Put what is due on one channel's conveyor, in turns; how much room is left."""
        after = self._served.pop(channel, None)
        while free > 0:
            found = await backlog.queues(self._pool, channel, now=now, after=after, limit=_QUEUES)
            shares = backlog.share_out(found, min(free, _BATCH))
            due = await backlog.take(self._pool, channel, shares, now=now, redrive=self._redrive) if found else []
            assert failpoints.at("recovery.taken")
            if not await self._drive_all(due, now):
                break
            free -= len(due)
            after = found[-1] if len(found) == _QUEUES else None
            if not due and after is None:
                break
        if after is not None:
            self._served[channel] = after
        return free

    async def _drive_fallen(self, now: datetime, low_water: Mapping[Channel, datetime]) -> None:
        while True:
            due = await deliveries.take_fallen(
                self._pool, now=now, low_water=low_water, redrive=self._redrive, limit=_BATCH
            )
            assert failpoints.at("recovery.taken_again")
            if not await self._drive_all(due, now) or len(due) < _BATCH:
                return

    async def _drive_all(self, due: Sequence[Standing], now: datetime) -> bool:
        """Publish what was taken; false if Kafka does not take it now, and it falls due again."""
        self._end_expired([standing for standing in due if standing.expires_at <= now], now)
        published = [self._drive(standing, now) for standing in due if standing.expires_at > now]
        assert failpoints.at("recovery.driven")
        return await acknowledged(published)

    def _drive(self, standing: Standing, now: datetime) -> Publication:
        metrics.REDRIVEN.labels("first attempt" if standing.attempts == 0 else "next attempt").inc()
        drive = drive_of(standing, now, repeatable=self._idempotent(standing))
        topic = Topic.ACCEPTED if standing.attempts == 0 else Topic.REROUTE
        return self._publisher.publish(topic, None, drive.encode())

    async def _end_lapsed(self, now: datetime) -> None:
        """A lease without an outcome: the worker died after its claim, so nobody knows whether it had called."""
        for standing in await deliveries.lapsed(self._pool, now=now, limit=_BATCH):
            drive = drive_of(standing, now, attempt=standing.attempts)
            repeat = Repeat(provider_id=standing.provider_id or SANDBOX_ID, reference=standing.last_reference or "")
            conclusion = conclude(
                drive,
                repeat,
                Unknown("the worker was lost before it could report"),
                idempotent=self._idempotent(standing),
                at=now,
                timing=self._settings,
            )
            metrics.REDRIVEN.labels("lease ended").inc()
            assert failpoints.at("recovery.before_lapsed")
            self._settler.settle(Settlement(drive, conclusion))

    def _end_expired(self, over: list[Standing], now: datetime) -> None:
        for standing in over:
            drive = drive_of(standing, now)
            assert failpoints.at("recovery.before_expired")
            self._settler.settle(Settlement(drive, expire(drive, at=now)))

    def _idempotent(self, standing: Standing) -> bool:
        if standing.provider_id == SANDBOX_ID:
            return True
        row = self._configuration.providers.get(standing.provider_id) if standing.provider_id else None
        if row is None:
            return False
        try:
            return registry.package_named(row.package).idempotent
        except LookupError:
            return False

    async def _announce_overdue(self, now: datetime) -> None:
        late = await outbox.take_overdue(self._pool, now=now, again=timedelta(seconds=10), limit=50)
        assert failpoints.at("recovery.before_announce")
        heard = [number for number in late if await announce_again(self._pool, self._publisher, number)]
        assert failpoints.at("recovery.announced")
        if heard:
            await outbox.forget(self._pool, heard)
            assert failpoints.at("recovery.forgotten")

    async def _keep_house(self, now: datetime) -> None:
        """Make the coming weeks' partitions, and forget idempotency keys that are over."""
        if self._kept_house is None or now - self._kept_house > self._every:
            assert failpoints.at("recovery.before_partitions")
            await partitions.ensure(self._pool, now)
            assert failpoints.at("recovery.partitions_made")
            self._kept_house, self._keys_left = now, True
        if self._keys_left:
            self._keys_left = await ingest.forget_keys(self._pool, now=now, limit=_KEYS) == _KEYS


def drive_of(standing: Standing, now: datetime, *, attempt: int | None = None, repeatable: bool = False) -> Drive:
    """The drive for a delivery's next attempt (or for the one named), as the record knows it."""
    repeat = None
    if repeatable and standing.last_outcome == "unknown" and standing.provider_id and standing.last_reference:
        repeat = Repeat(provider_id=standing.provider_id, reference=standing.last_reference)
    return Drive(
        delivery_id=standing.id,
        message_id=standing.message_id,
        project_id=standing.project_id,
        channel=standing.channel,
        class_=standing.class_,
        driven_at=now,
        expires_at=standing.expires_at,
        attempt=attempt if attempt is not None else standing.attempts + 1,
        round=standing.round,
        tried=standing.tried,
        ambiguous=standing.ambiguous,
        preferred=standing.preferred,
        sandbox=standing.sandbox,
        repeat=repeat,
    )
