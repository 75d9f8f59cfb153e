"""Notices that awaited messages are settled, through Redis pub/sub: they wake the gateways whose callers wait.

A notice is the id of a message and nothing else: the gateway reads what became of it from PostgreSQL. One that is lost,
while Redis is away for example, delays an answer and changes none (docs/decisions/0065). Messages without a waiting
caller cause no notice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sluice.runtime.tasks import TaskSet

log = structlog.get_logger()

CHANNEL = "sluice:settled"
"""The channel of all notices: every gateway reads it."""

REDIS_ERRORS: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
"""What the client raises while Redis is away."""

_BREAK = 2.0  # seconds for which Redis is left alone after it did not answer


class SettledNotices:
    """Publishes notices. Those that come while one publication is under way share the next one."""

    def __init__(self, redis: Redis | None) -> None:
        """``redis``: None where there is none; then no notice is published."""
        self._redis = redis
        self._waiting: set[UUID] = set()
        self._tasks = TaskSet()
        self._publishing = False
        self._broken_until = 0.0  # monotonic

    def publish(self, message_ids: Iterable[UUID]) -> None:
        """Publish a notice for each message, without waiting for Redis."""
        if self._redis is None or time.monotonic() < self._broken_until:
            return
        self._waiting.update(message_ids)
        if self._waiting and not self._publishing:
            self._publishing = True
            self._tasks.spawn(self._publish_all(self._redis))

    async def _publish_all(self, redis: Redis) -> None:
        try:
            while self._waiting:
                ids, self._waiting = self._waiting, set()
                await redis.publish(CHANNEL, encode_notice(ids))
        except REDIS_ERRORS as error:
            log.warning("settled_notices_lost", error=type(error).__name__)
            self._waiting.clear()
            self._broken_until = time.monotonic() + _BREAK
        finally:
            self._publishing = False

    async def join(self) -> None:
        """Return when everything is published."""
        await self._tasks.join()


def encode_notice(message_ids: Iterable[UUID]) -> bytes:
    """The payload: the ids, 16 bytes each."""
    return b"".join([message_id.bytes for message_id in message_ids])


def decode_notice(payload: bytes) -> list[UUID]:
    """The ids of a payload; what is no whole id at its end is passed over."""
    return [UUID(bytes=payload[start : start + 16]) for start in range(0, len(payload) - 15, 16)]
