"""The permits of providers with a call rate, shared by all workers through Redis.

A worker asks at once for the permits of all its providers that have waiting jobs, at most twenty times a second,
however many messages they are. The script in Redis is :class:`sluice.delivery.call_window.CallWindow` for all workers,
by the clock of Redis. A permit is used after the answer, and before its validity has passed since the request: that is
within the validity that the script counts, so the two clocks need not agree.

Without Redis a worker grants permits itself: its share of the call rate, by the number of workers that Redis has
counted last.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import structlog
from redis.asyncio import Redis

from sluice.delivery.bulkhead import Bulkhead
from sluice.delivery.call_window import SECOND, CallWindow
from sluice.delivery.job import Job
from sluice.delivery.settled_notices import REDIS_ERRORS
from sluice.model.ids import uuid7
from sluice.runtime import metrics

log = structlog.get_logger()

_PACE = 0.05  # seconds between two requests
_MIN_VALIDITY = 0.1  # seconds; the longer, the fewer calls: limit / (1 + validity) of them in a second
_ROUND_TRIPS = 3.0  # of the slowest recent request, that a permit is valid for at least
_CALM = 0.9  # what remains of it after each faster request
_BREAK = 2.0  # seconds for which Redis is left alone after it did not answer
_SEEN = 60.0  # seconds for which a worker counts after its last request
_RESERVED = 300  # milliseconds for which what is granted next is kept for a worker whose call needs several at once
# KEYS: permits by the time at which they no longer count, workers by their last request, the reservation.
# ARGV: limit, wanted, validity, worker, seconds for which a worker counts, least, milliseconds of a reservation.
_TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local left = tonumber(ARGV[1])
for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    left = left - tonumber(string.match(entry, '^%d+'))
end
local least = tonumber(ARGV[6])
local owner, kept = string.match(redis.call('GET', KEYS[3]) or '', '^(%S+) (%d+)$')
if owner and owner ~= ARGV[4] then
    left = left - tonumber(kept)
end
local granted = math.max(0, math.min(tonumber(ARGV[2]), left))
if granted < least then
    granted = 0
    if least > 1 and (not owner or owner == ARGV[4]) then
        redis.call('SET', KEYS[3], ARGV[4] .. ' ' .. ARGV[6], 'PX', ARGV[7])
    end
elseif owner == ARGV[4] then
    redis.call('DEL', KEYS[3])
end
if granted > 0 then
    local ends = now + tonumber(ARGV[3]) + 1
    local name = string.format('%d:%s.%s:%s', granted, time[1], time[2], ARGV[4])
    redis.call('ZADD', KEYS[1], string.format('%.6f', ends), name)
    redis.call('PEXPIRE', KEYS[1], math.ceil((ends - now) * 1000) + 1000)
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[5]))
redis.call('ZADD', KEYS[2], string.format('%.6f', now), ARGV[4])
redis.call('EXPIRE', KEYS[2], math.ceil(tonumber(ARGV[5])) + 1)
return {granted, redis.call('ZCARD', KEYS[2])}
"""


class PermitRequest(NamedTuple):
    """What a worker asks for one provider."""

    provider_id: UUID
    limit: int  # permits in a second
    wanted: int
    least: int = 1  # none are granted rather than fewer


class PermitSource:
    """Grants the permits of one worker. ``redis``: None where there is none."""

    def __init__(self, redis: Redis | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._worker = str(uuid7())
        self._own: dict[UUID, CallWindow] = {}
        self._workers: dict[UUID, int] = {}  # that share a provider
        self._validity = _MIN_VALIDITY
        self._broken_until = 0.0

    async def take(self, requests: Sequence[PermitRequest]) -> tuple[Mapping[UUID, int], float]:
        """The number of permits for each provider, at most what is wanted, and the time until which they are valid."""
        asked_at = self._clock()
        validity = self._validity
        granted = await self._ask(requests, validity)
        if granted is None:
            asked_at = self._clock()
            granted = {one.provider_id: self._take_own(one, asked_at, validity) for one in requests}
        else:
            took = self._clock() - asked_at
            self._validity = max(_MIN_VALIDITY, _CALM * self._validity, _ROUND_TRIPS * took)
            for provider_id, number in granted.items():
                self._window(provider_id).note(number, asked_at, validity)
        return granted, asked_at + validity

    async def _ask(self, requests: Sequence[PermitRequest], validity: float) -> Mapping[UUID, int] | None:
        """What Redis grants; None without an answer."""
        if self._redis is None or self._clock() < self._broken_until:
            return None
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for one in requests:
                    name = f"sluice:calls:{{{one.provider_id}}}"
                    keys = (name, f"{name}:workers", f"{name}:reserved")
                    arguments = (one.limit, one.wanted, validity, self._worker, _SEEN, one.least, _RESERVED)
                    pipeline.eval(_TAKE, len(keys), *keys, *arguments)
                answers = await pipeline.execute()
        except REDIS_ERRORS as error:
            self._broken_until = self._clock() + _BREAK
            metrics.CALL_RATES_LOCAL.set(1)
            log.warning("call_rates_local", error=type(error).__name__)
            return None
        metrics.CALL_RATES_LOCAL.set(0)
        for one, (_, workers) in zip(requests, answers, strict=True):
            self._workers[one.provider_id] = int(workers)
        return {one.provider_id: int(number) for one, (number, _) in zip(requests, answers, strict=True)}

    def _take_own(self, one: PermitRequest, now: float, validity: float) -> int:
        share = max(1, one.least, one.limit // self._workers.get(one.provider_id, 1))
        return self._window(one.provider_id).take(share, one.wanted, now, validity, least=one.least)

    def _window(self, provider_id: UUID) -> CallWindow:
        return self._own.setdefault(provider_id, CallWindow())


class CallPermits:
    """Gets permits for the bulkheads whose jobs wait for one. ``dispatch`` starts the jobs that have one then."""

    def __init__(self, source: PermitSource, dispatch: Callable[[UUID, Bulkhead[Job]], None]) -> None:
        self._source = source
        self._dispatch = dispatch
        self._wanting: dict[UUID, Bulkhead[Job]] = {}
        self._woken = asyncio.Event()
        self._granted = asyncio.Event()

    def want(self, provider_id: UUID, bulkhead: Bulkhead[Job]) -> None:
        """Note that a bulkhead may need permits."""
        if bulkhead.call_rate is not None and bulkhead.wanted(time.monotonic()):
            self._wanting[provider_id] = bulkhead
            self._woken.set()

    async def renew(self, bulkhead: Bulkhead[Job], job: Job) -> None:
        """Return when the job's call may start: at once, unless its permit has ended while it was claimed."""
        while not bulkhead.may_call(job, time.monotonic()):
            self.want(job.provider_id, bulkhead)
            await self._granted.wait()

    async def run(self) -> None:
        """Get permits while any are wanted, forever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._get()
            if self._wanting:
                self._woken.set()
            await asyncio.sleep(_PACE)

    async def _get(self) -> None:
        now, requests = time.monotonic(), []
        for provider_id, bulkhead in list(self._wanting.items()):
            rate, wanted = bulkhead.call_rate, bulkhead.wanted(now)
            if rate is None or not wanted:
                del self._wanting[provider_id]
                self._dispatch(provider_id, bulkhead)
            else:
                # Few at a time: other workers get theirs, and the calls are spread over the second.
                least, usual = bulkhead.least(now), math.ceil(rate * 2 * _PACE / SECOND)
                requests.append(PermitRequest(provider_id, rate, min(wanted, max(least, usual)), least))
        if requests:
            granted, until = await self._source.take(requests)
            for provider_id, number in granted.items():
                bulkhead = self._wanting[provider_id]
                bulkhead.grant(number, until)
                self._dispatch(provider_id, bulkhead)
        self._granted.set()  # wakes everything that waits, once
        self._granted = asyncio.Event()
