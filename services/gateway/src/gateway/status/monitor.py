"""The parts of an installation as this gateway reaches them, measured when they are asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sluice.bus.group_status import GroupStatus, GroupSurvey
from sluice.bus.topics import Group
from sluice.runtime.clock import utc_now
from sluice.store.db import UNAVAILABLE_ERRORS, Pool

_TIMEOUT = 3.0  # seconds
_FRESH = 5.0  # seconds for which a measurement is used again


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A backing service. ``error``: None while it answers; ``since``: when this gateway saw it become so."""

    error: str | None
    latency: float | None  # seconds of one request
    since: datetime


@dataclass(frozen=True, slots=True)
class InstallationStatus:
    """All parts. ``redis``: None where it is not used; ``groups``: None while the bus does not answer."""

    postgres: PartStatus
    kafka: PartStatus
    redis: PartStatus | None
    groups: Mapping[Group, GroupStatus] | None
    measured_at: datetime


SurveyGroups = Callable[[], Awaitable[GroupSurvey]]


class StatusMonitor:
    """Measures at most every five seconds, however many ask."""

    def __init__(self, pool: Pool, redis: Redis | None, survey_groups: SurveyGroups) -> None:
        self._pool = pool
        self._redis = redis
        self._survey_groups = survey_groups
        self._measuring = asyncio.Lock()
        self._measured: InstallationStatus | None = None
        self._measured_at = 0.0
        self._since: dict[str, tuple[bool, datetime]] = {}

    async def status(self) -> InstallationStatus:
        """The newest measurement. What does not answer is part of it, and no error."""
        async with self._measuring:
            if self._measured is None or time.monotonic() - self._measured_at > _FRESH:
                self._measured = await self._measure()
                self._measured_at = time.monotonic()
            return self._measured

    async def _measure(self) -> InstallationStatus:
        groups: Mapping[Group, GroupStatus] = {}

        async def ask_postgres() -> float:
            return await _timed(self._pool.fetchval("SELECT 1"))

        async def ask_kafka() -> float:
            nonlocal groups
            groups, latency = await self._survey_groups()
            return latency

        async def ask_redis() -> float:
            return 0.0 if self._redis is None else await _timed(self._redis.ping())

        postgres, kafka, redis = await asyncio.gather(
            self._part("postgres", ask_postgres),
            self._part("kafka", ask_kafka),
            self._part("redis", ask_redis),
        )
        return InstallationStatus(
            postgres=postgres,
            kafka=kafka,
            redis=None if self._redis is None else redis,
            groups=None if kafka.error else groups,
            measured_at=utc_now(),
        )

    async def _part(self, name: str, ask: Callable[[], Awaitable[float]]) -> PartStatus:
        error = latency = None
        try:
            async with asyncio.timeout(_TIMEOUT):
                latency = await ask()
        except (*UNAVAILABLE_ERRORS, KafkaError, RedisError) as fault:
            error = "no answer in time" if isinstance(fault, TimeoutError) else type(fault).__name__
        answers, since = self._since.get(name, (None, None))
        if since is None or answers is not (error is None):
            since = utc_now()
            self._since[name] = (error is None, since)
        return PartStatus(error, latency, since)


async def _timed(answer: Awaitable[object]) -> float:
    began = time.monotonic()
    await answer
    return time.monotonic() - began
