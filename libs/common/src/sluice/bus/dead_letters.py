"""What becomes of a record that cannot be read: set aside whole, with where it was and why."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import structlog

from sluice.bus.publisher import Publisher, acknowledged
from sluice.bus.topics import Topic
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now

log = structlog.get_logger()

# What is kept of a bad record: more would not fit into a record of its own, which a broker takes up to 1 MiB.
_KEPT = 256 * 1024  # bytes of its value
_KEPT_TEXT = 1024  # bytes of its key and of each header, characters of the reason
_KEPT_HEADERS = 32
_AGAIN = 0.5  # seconds before it is tried again while Kafka is away


class Unreadable(Protocol):
    """A record as the consumer gives it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


_SECRET_HEADERS = {"x-sendpipe-key", "authorization"}


def parked(record: Unreadable, reason: str, *, at: datetime) -> bytes:
    """The dead letter of a bad record: its coordinates, the reason, and its bytes in base64 (keys left out)."""
    key, value, headers = record.key or b"", record.value or b"", list(record.headers)
    return json.dumps(
        {
            "kind": "unreadable",
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "reason": reason[:_KEPT_TEXT],
            "at": at.isoformat(),
            "key": base64.b64encode(key[:_KEPT_TEXT]).decode(),
            "headers": {name[:_KEPT_TEXT]: _shown(name, text) for name, text in headers[:_KEPT_HEADERS]},
            "value": base64.b64encode(value[:_KEPT]).decode(),
            "truncated": len(value) > _KEPT or len(key) > _KEPT_TEXT or len(headers) > _KEPT_HEADERS,
        }
    ).encode()


def _shown(name: str, text: bytes | None) -> str | None:
    if text is None:
        return None
    return "***" if name.lower() in _SECRET_HEADERS else text[:_KEPT_TEXT].decode("utf-8", "replace")


class Pending(Unreadable, Protocol):
    """A record in flight."""

    @property
    def alive(self) -> bool: ...
    def done(self) -> None: ...


async def set_aside(publisher: Publisher, record: Pending, reason: str) -> None:
    """Park a bad record, however long the broker is away, and let its partition move on."""
    log.info("record_parked", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason)
    metrics.PARKED.labels(record.topic).inc()
    while record.alive and not await park(publisher, record, reason, at=utc_now()):
        await asyncio.sleep(_AGAIN)
    record.done()


async def park(publisher: Publisher, record: Unreadable, reason: str, *, at: datetime) -> bool:
    """Put a bad record on ``dead.letters``; True once the broker has it, so that its partition may move on."""
    assert failpoints.at("park.before_publish")
    key = f"{record.topic}/{record.partition}/{record.offset}".encode()
    parked_now = await acknowledged([publisher.publish(Topic.DEAD_LETTERS, key, parked(record, reason, at=at))])
    assert failpoints.at("park.published")
    return parked_now
