"""How many attempts to log in, and mails to others, there are: shared through Redis, in this process without it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from time import monotonic
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.errors import TooManyRequests
from gateway.rate_limits.buckets import Budget
from gateway.rate_limits.limits import network_of, show

log = structlog.get_logger()

_MAX_COUNTERS = 20_000  # in memory
# Counts an attempt and returns the count with the seconds until the window ends. A counter always has an expiry.
_COUNT = """
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) left = tonumber(ARGV[1]) end
return {count, left}
"""


class _Counters(Protocol):
    async def count(self, name: str) -> tuple[int, float]: ...
    async def forgive(self, name: str) -> None: ...


class LocalCounters:
    """Counters of this process, each for one window; the oldest go when there are too many."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._counters: dict[str, tuple[int, float]] = {}  # count, end of the window (monotonic)

    async def count(self, name: str) -> tuple[int, float]:
        """Count one attempt: the count, and the seconds until the window ends."""
        now = monotonic()
        count, ends_at = self._counters.get(name, (0, 0.0))
        if ends_at <= now:
            self._counters.pop(name, None)
            count, ends_at = 0, now + self._window
        self._counters[name] = count + 1, ends_at
        if len(self._counters) > _MAX_COUNTERS:
            del self._counters[next(iter(self._counters))]
        return count + 1, ends_at - now

    async def forgive(self, name: str) -> None:
        """Forget the attempts."""
        self._counters.pop(name, None)


class RedisCounters:
    """Counters that all gateways share. While Redis does not answer, those of this process count."""

    def __init__(self, redis: Redis, window: float) -> None:
        self._redis = redis
        self._window = window
        self._local = LocalCounters(window)
        self._script = redis.register_script(_COUNT)

    async def count(self, name: str) -> tuple[int, float]:
        """See :meth:`LocalCounters.count`."""
        try:
            count, left = await self._script(keys=[name], args=[int(self._window * 1000)])
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("login_throttle_local", error=type(error).__name__)
            return await self._local.count(name)
        return int(count), int(left) / 1000

    async def forgive(self, name: str) -> None:
        """See :meth:`LocalCounters.forgive`."""
        await self._local.forgive(name)
        try:
            await self._redis.delete(name)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("login_throttle_local", error=type(error).__name__)


class LoginThrottle:
    """Limits attempts per account and per client address in a window; every attempt counts before it is checked, so
    that concurrent guesses count too. A successful login forgives the account's.
    """

    def __init__(self, counters: _Counters, *, per_account: int, per_address: int) -> None:
        self._counters = counters
        self._per_account = per_account
        self._per_address = per_address

    async def attempt(self, account: str | None, address: str | None) -> None:
        """Count one attempt. ``account``: the key of its e-mail address; unknown ones count alike.

        Raises:
            TooManyRequests: the address or the account has none left.
        """
        for name, limit in self._names(account, address):
            count, left = await self._counters.count(name)
            show(Budget(limit, max(0, limit - count), left))
            if count > limit:
                raise TooManyRequests("Too many attempts. Retry later.", retry_after=max(1, round(left)))

    async def succeeded(self, account: str) -> None:
        """Forgive the attempts of an account; those of the address stay: it may guess at other accounts."""
        await self._counters.forgive(_name("account", account))

    def _names(self, account: str | None, address: str | None) -> Sequence[tuple[str, int]]:
        names = []
        if address is not None:
            names.append((_name("address", network_of(address)), self._per_address))
        if account is not None:
            names.append((_name("account", account), self._per_account))
        return names


def _name(kind: str, value: str) -> str:
    return f"sluice:login:{kind}:{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
