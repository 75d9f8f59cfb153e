"""What becomes of a record that cannot be read: set aside whole, with where it was and why."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import structlog

from sluice.bus.publisher import Publisher, wait_for_acks
from sluice.bus.topics import Topic
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now

log = structlog.get_logger()

# What is kept of a bad record: more would not fit into a record of its own, which a broker takes up to 1 MiB.
_MAX_VALUE = 256 * 1024  # bytes of its value
_MAX_TEXT = 1024  # bytes of its key and of each header, characters of the reason
_MAX_HEADERS = 32
_RETRY_DELAY = 0.5  # seconds before it is tried again while Kafka is away


class RawRecord(Protocol):
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


def encode_dead_letter(record: RawRecord, reason: str, *, at: datetime) -> bytes:
    """The dead letter of a bad record: its coordinates, the reason, and its bytes in base64 (keys left out)."""
    key, value, headers = record.key or b"", record.value or b"", list(record.headers)
    return json.dumps(
        {
            "kind": "unreadable",
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "reason": reason[:_MAX_TEXT],
            "at": at.isoformat(),
            "key": base64.b64encode(key[:_MAX_TEXT]).decode(),
            "headers": {name[:_MAX_TEXT]: _shown(name, text) for name, text in headers[:_MAX_HEADERS]},
            "value": base64.b64encode(value[:_MAX_VALUE]).decode(),
            "truncated": len(value) > _MAX_VALUE or len(key) > _MAX_TEXT or len(headers) > _MAX_HEADERS,
        }
    ).encode()


def _shown(name: str, text: bytes | None) -> str | None:
    if text is None:
        return None
    return "***" if name.lower() in _SECRET_HEADERS else text[:_MAX_TEXT].decode("utf-8", "replace")


class InFlightRecord(RawRecord, Protocol):
    """A record in flight."""

    @property
    def owned(self) -> bool: ...
    def ack(self) -> None: ...


async def dead_letter(publisher: Publisher, record: InFlightRecord, reason: str) -> None:
    """Park a bad record, however long the broker is away, and let its partition move on."""
    log.info(
        "record_dead_lettered", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason
    )
    metrics.DEAD_LETTERED_RECORDS.labels(record.topic).inc()
    while record.owned and not await publish_dead_letter(publisher, record, reason, at=utc_now()):
        await asyncio.sleep(_RETRY_DELAY)
    record.ack()


async def publish_dead_letter(publisher: Publisher, record: RawRecord, reason: str, *, at: datetime) -> bool:
    """Put a bad record on ``dead.letters``; True once the broker has it, so that its partition may move on."""
    assert failpoints.hit("dead_letter.before_publish")
    key = f"{record.topic}/{record.partition}/{record.offset}".encode()
    parked_now = await wait_for_acks(
        [publisher.publish(Topic.DEAD_LETTERS, key, encode_dead_letter(record, reason, at=at))]
    )
    assert failpoints.hit("dead_letter.published")
    return parked_now
