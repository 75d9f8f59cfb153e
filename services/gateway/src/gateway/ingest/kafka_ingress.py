"""The second door: records on ``send.requests`` meet the same acceptance as HTTP requests.

A record is finished when its message is recorded, its request was refused on the bus, or it was parked; so an outage
of Postgres holds the partition back and loses nothing.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from gateway.auth.api_keys import KEY_HEADER, ApiKeyAuthenticator
from gateway.errors import ApiError, Unavailable
from gateway.ingest.ingest import MessageIngest
from sluice.bus.dead_letters import dead_letter
from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER, RequestRejected
from sluice.bus.publisher import Publisher, wait_for_acks
from sluice.bus.topics import Topic
from sluice.bus.window import Record
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice.store.api_keys import ApiKey

log = structlog.get_logger()

_RETRY_DELAY = 0.5  # seconds before a record is tried again while Postgres or Kafka is away


class SendRequestConsumer:
    """Takes records of ``send.requests``."""

    def __init__(
        self, keys: ApiKeyAuthenticator, ingest: MessageIngest, publisher: Publisher, *, max_body: int
    ) -> None:
        self._keys = keys
        self._ingest = ingest
        self._publisher = publisher
        self._max_body = max_body
        self._tasks = TaskSet()

    async def handle_batch(self, records: list[Record]) -> None:
        """Take a batch over."""
        for record in records:
            self._tasks.spawn(self._accept(record))

    async def _accept(self, record: Record) -> None:
        while record.owned:
            try:
                await self._process(record)
                break
            except Unavailable:
                await asyncio.sleep(_RETRY_DELAY)
            except Exception as error:
                log.exception("ingress_failed", partition=record.partition, offset=record.offset)
                await dead_letter(self._publisher, record, f"it broke the intake: {type(error).__name__}")
                break
        record.ack()

    async def _process(self, record: Record) -> None:
        headers = {name.lower(): value for name, value in record.headers}
        fault = self._why_unreadable(record, headers)
        if fault is not None:
            await dead_letter(self._publisher, record, fault)
            return
        key: ApiKey | None = None
        try:
            key = await self._keys.authenticate(_text(headers.get(KEY_HEADER)))
            assert failpoints.hit("ingress.before_accept")
            await self._ingest.accept(
                record.value or b"",
                key,
                source="bus",
                header_key=_text(headers.get("idempotency-key")),
                fallback_key=_positional_key(record),
                submitted_at=_producer_time(record),
            )
            assert failpoints.hit("ingress.accepted")
        except Unavailable:
            raise
        except ApiError as error:
            metrics.REQUESTS_REJECTED.labels(error.code, "bus").inc()
            if key is not None:
                await self._reject(record, key, error, _text(headers.get("idempotency-key")))
            await dead_letter(self._publisher, record, f"{error.code}: {error}")

    def _why_unreadable(self, record: Record, headers: dict[str, bytes | None]) -> str | None:
        version = _text(headers.get(VERSION_HEADER)) or str(SCHEMA_VERSION)
        if version != str(SCHEMA_VERSION):
            return f"schema version {version[:32]!r} is not known here; this version reads {SCHEMA_VERSION}"
        if not record.value:
            return "it is empty"
        if len(record.value) > self._max_body:
            return f"it is larger than {self._max_body} bytes"
        return None

    async def _reject(self, record: Record, key: ApiKey, error: ApiError, idempotency_key: str | None) -> None:
        rejected = RequestRejected(
            project_id=key.project_id,
            code=error.code,
            message=str(error),
            field=error.field,
            idempotency_key=idempotency_key,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            occurred_at=utc_now(),
        )
        assert failpoints.hit("ingress.before_reject")
        await wait_for_acks([self._publisher.publish(Topic.EVENTS, key.project_id.bytes, rejected.encode())])
        assert failpoints.hit("ingress.rejected")


def _producer_time(record: Record) -> datetime | None:
    """When its producer let go of it: what it asks for was right then, however late it is read."""
    if not 0 < record.timestamp < utc_now().timestamp() * 1000:
        return None
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


def _positional_key(record: Record) -> str:
    """The idempotency key of a record that brings none: a record that is read twice is one request.

    No caller can use it, because it begins with a control character. The time tells records apart that stand at the
    same place of a topic that was made anew.
    """
    return f"\x1f{record.topic}/{record.partition}/{record.offset}@{record.timestamp}"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
