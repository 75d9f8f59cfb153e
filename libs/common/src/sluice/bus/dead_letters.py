"""Dead letters: unreadable records, published on ``dead.letters`` with their coordinates and a reason."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog

from sluice.bus.publisher import Publisher, wait_for_acks
from sluice.bus.record_batches import why_undecodable
from sluice.bus.topics import Topic
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now

log = structlog.get_logger()

# Limits of what a dead letter keeps of its record: the broker accepts records of at most 1 MiB.
_MAX_VALUE = 256 * 1024  # bytes of the value
_MAX_TEXT = 1024  # bytes of the key and of each header, characters of the reason
_MAX_HEADERS = 32
_RETRY_DELAY = 0.5  # seconds before the next try while Kafka is unavailable


class RawRecord(Protocol):
    """A record as it was read."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...

    offset: int
    timestamp: int  # milliseconds
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


_SECRET_HEADERS = {"x-sendpipe-key", "authorization"}


REPLAY_HEADER = "x-sluice-replay-of"
"""Of a replayed record: ``topic/partition/offset@timestamp`` of the record that it repeats."""


def coordinates(record: RawRecord) -> str:
    """What identifies a record; the time distinguishes records at the same offset of a topic that was recreated."""
    return f"{record.topic}/{record.partition}/{record.offset}@{record.timestamp}"


def encode_dead_letter(record: RawRecord, reason: str, *, at: datetime, project_id: UUID | None = None) -> bytes:
    """The dead letter of a record: its coordinates, the reason, and its bytes in base64, without API keys.

    ``project_id``: of the project that has published it, where it is known.
    """
    key, value, headers = record.key or b"", record.value or b"", list(record.headers)
    return json.dumps(
        {
            "kind": "invalid_record",
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "project_id": None if project_id is None else str(project_id),
            "reason": reason[:_MAX_TEXT],
            "at": at.isoformat(),
            "key": base64.b64encode(key[:_MAX_TEXT]).decode(),
            "headers": {name[:_MAX_TEXT]: _redact_header(name, text) for name, text in headers[:_MAX_HEADERS]},
            "value": base64.b64encode(value[:_MAX_VALUE]).decode(),
            "truncated": len(value) > _MAX_VALUE or len(key) > _MAX_TEXT or len(headers) > _MAX_HEADERS,
        }
    ).encode()


def _redact_header(name: str, text: bytes | None) -> str | None:
    if text is None:
        return None
    return "***" if name.lower() in _SECRET_HEADERS else text[:_MAX_TEXT].decode("utf-8", "replace")


class InFlightRecord(RawRecord, Protocol):
    """A record in flight (:class:`sluice.bus.window.Record`)."""

    @property
    def owned(self) -> bool: ...
    def ack(self) -> None: ...


def count_from_zero(topic: str) -> None:
    """Let the counter of dead letters exist: a rate does not see the event with which a series begins."""
    metrics.series(metrics.DEAD_LETTERED_RECORDS, topic)


async def dead_letter(
    publisher: Publisher, record: InFlightRecord, reason: str, *, project_id: UUID | None = None
) -> None:
    """Publish an unreadable record as a dead letter, retried until the broker has it, then acknowledge the record."""
    while record.owned and not await publish_dead_letter(
        publisher, record, reason, at=utc_now(), project_id=project_id
    ):
        await asyncio.sleep(_RETRY_DELAY)
    record.ack()


async def publish_dead_letter(
    publisher: Publisher, record: RawRecord, reason: str, *, at: datetime, project_id: UUID | None = None
) -> bool:
    """Publish the dead letter of an unreadable record; false if the broker did not acknowledge it."""
    assert failpoints.hit("dead_letter.before_publish")
    reason = why_undecodable(record.headers) or reason  # the handler saw a record without a value
    key = f"{record.topic}/{record.partition}/{record.offset}".encode()
    published = await wait_for_acks(
        [publisher.publish(Topic.DEAD_LETTERS, key, encode_dead_letter(record, reason, at=at, project_id=project_id))]
    )
    assert failpoints.hit("dead_letter.published")
    if published:
        log.info(
            "record_dead_lettered",
            reason=reason,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        )
        metrics.series(metrics.DEAD_LETTERED_RECORDS, record.topic).inc()
    return published
