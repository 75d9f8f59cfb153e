"""Token buckets that gateways share through Redis, each taking some tokens at a time.

A bucket has at most ``capacity`` tokens and gets as many again in a minute. A gateway leases tokens for the requests of
about a second, so that a request costs no round trip; what it does not use it gives back with its next lease. All
gateways together never admit more than the bucket has, and the first requests of a busy second wait for one script.

Without Redis each gateway has a bucket of its own for each name: N gateways admit up to N times the limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sluice.runtime import metrics

log = structlog.get_logger()

_PERIOD = 60.0  # seconds in which a bucket gets its capacity
_LEASE = 1.0  # seconds for which leased tokens are kept
_MAX_LEASE_SHARE = 20  # a lease is at most this part of a bucket
_MAX_BUCKETS = 20_000  # that one gateway remembers
_BREAK = 2.0  # seconds for which Redis is left alone after it did not answer
# Adds what has come since, and what is given back; takes up to what is wanted. The clock is that of Redis.
_TAKE = """
local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(held[1]) or capacity, tonumber(held[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - at) * rate + tonumber(ARGV[4]))
local granted = math.min(tonumber(ARGV[3]), math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', tostring(now))
redis.call('EXPIRE', KEYS[1], 120)
return {granted, tostring(tokens)}
"""


class Budget(NamedTuple):
    """What a caller has left: the requests of ``limit`` a minute that remain, and the seconds until all do again.

    ``retry_after``: the seconds until the next request is admitted; None for one that is.
    """

    limit: int
    remaining: int
    full_in: float
    retry_after: float | None = None


@dataclass
class _Bucket:
    capacity: int
    clock: Callable[[], float]
    leased: int = 0
    leased_at: float = 0.0
    requests: int = 0  # of the second that began at counted_at
    requests_before: int = 0  # of the second before it
    counted_at: float = 0.0
    rest: float = 0.0  # in the shared bucket, when it was asked
    asked_at: float = 0.0
    refused_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.capacity / _PERIOD

    def count(self) -> None:
        """Count a request."""
        now = self.clock()
        if now - self.counted_at >= _LEASE:
            self.requests_before = self.requests if now - self.counted_at < 2 * _LEASE else 0
            self.requests, self.counted_at = 0, now
        self.requests += 1

    def wanted(self) -> int:
        """Tokens for the requests of about a second."""
        return max(1, min(self.capacity // _MAX_LEASE_SHARE, max(self.requests, self.requests_before)))

    def budget(self, *, admitted: bool) -> Budget:
        now = self.clock()
        rest = min(self.capacity, self.rest + (now - self.asked_at) * self.rate + self.leased)
        full_in = (self.capacity - rest) / self.rate
        retry_after = None if admitted else max(0.0, self.refused_until - now)
        return Budget(self.capacity, max(0, int(rest)) if admitted else 0, full_in, retry_after)


class TokenBuckets:
    """The buckets of one gateway. ``redis``: None where there is none."""

    def __init__(self, redis: Redis | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._take = None if redis is None else redis.register_script(_TAKE)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._broken_until = 0.0

    async def spend(self, name: str, capacity: int) -> Budget:
        """Take one token of the bucket ``name``, which has ``capacity`` tokens a minute."""
        bucket = self._bucket(name, capacity)
        bucket.count()
        if not self._spend_leased(bucket):
            async with bucket.lock:
                if not self._spend_leased(bucket) and self._clock() >= bucket.refused_until:
                    await self._lease(name, bucket)
                    self._spend_leased(bucket)
        admitted = bucket.refused_until == 0.0
        return bucket.budget(admitted=admitted)

    def _bucket(self, name: str, capacity: int) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None or bucket.capacity != capacity:
            now = self._clock()
            bucket = self._buckets[name] = _Bucket(capacity, self._clock, asked_at=now, rest=float(capacity))
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        return bucket

    def _spend_leased(self, bucket: _Bucket) -> bool:
        if not bucket.leased or self._clock() - bucket.leased_at > _LEASE:
            return False
        bucket.leased -= 1
        return True

    async def _lease(self, name: str, bucket: _Bucket) -> None:
        wanted, unused = bucket.wanted(), bucket.leased
        granted, rest = await self._ask(name, bucket, wanted, unused)
        now = self._clock()
        bucket.leased, bucket.leased_at = granted, now
        bucket.rest, bucket.asked_at = rest, now
        bucket.refused_until = 0.0 if granted else now + (1.0 - rest) / bucket.rate

    async def _ask(self, name: str, bucket: _Bucket, wanted: int, unused: int) -> tuple[int, float]:
        if self._take is not None and self._clock() >= self._broken_until:
            try:
                answer = await self._take(
                    keys=[f"sluice:rate:{name}"], args=[bucket.capacity, bucket.rate, wanted, unused]
                )
            except (RedisError, OSError, TimeoutError) as error:
                self._broken_until = self._clock() + _BREAK
                metrics.RATE_LIMITS_LOCAL.set(1)
                log.warning("rate_limits_local", error=type(error).__name__)
            else:
                metrics.RATE_LIMITS_LOCAL.set(0)
                return int(answer[0]), float(answer[1])
        return self._take_locally(bucket, wanted, unused)

    def _take_locally(self, bucket: _Bucket, wanted: int, unused: int) -> tuple[int, float]:
        """From what the shared bucket had when it was asked last."""
        tokens = min(bucket.capacity, bucket.rest + (self._clock() - bucket.asked_at) * bucket.rate + unused)
        granted = min(wanted, int(tokens))
        return granted, tokens - granted
