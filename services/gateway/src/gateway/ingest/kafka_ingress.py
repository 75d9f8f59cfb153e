"""Kafka ingress: records on ``send.requests`` take the same path as HTTP requests.

A record is acknowledged when its message is stored, its request was rejected on the bus, or it was dead-lettered; an
outage of PostgreSQL holds the partition back and loses nothing.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import structlog

from gateway.auth.api_keys import KEY_HEADER, SIGNED_HEADERS, ApiKeyAuthenticator
from gateway.auth.permissions import Permission
from gateway.auth.principal import Principal, require
from gateway.errors import ApiError, Unavailable, ValidationFailed
from gateway.ingest.ingest import MessageIngest
from gateway.kit.responses import idempotency_key_of
from gateway.messages.v1_schemas import read_command
from sluice.bus.dead_letters import REPLAY_HEADER, coordinates, dead_letter
from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER, RequestRejected
from sluice.bus.publisher import Publisher, wait_for_acks
from sluice.bus.topics import Topic
from sluice.bus.window import Record
from sluice.runtime import failpoints, metrics, tracing
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice.store.record_signatures import IDEMPOTENCY_HEADER, SIGNATURE_HEADER

log = structlog.get_logger()

_RETRY_DELAY = 0.5  # seconds before a record is processed again while PostgreSQL or Kafka is unavailable
_SOURCE = "kafka"
_COORDINATES = re.compile(r"[A-Za-z0-9._-]{1,249}/[0-9]{1,10}/[0-9]{1,19}@[0-9]{1,19}")


class SendRequestConsumer:
    """Processes the records of ``send.requests``, whose values are bodies of ``POST /v1/messages/channel``."""

    def __init__(
        self, authenticator: ApiKeyAuthenticator, ingest: MessageIngest, publisher: Publisher, *, max_body: int
    ) -> None:
        self._authenticator = authenticator
        self._ingest = ingest
        self._publisher = publisher
        self._max_body = max_body
        self._tasks = TaskSet()

    async def handle_batch(self, records: list[Record]) -> None:
        """Begin to process ``records``, all at once."""
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
                await dead_letter(self._publisher, record, f"unexpected error at ingest: {type(error).__name__}")
                break
        record.ack()

    async def _process(self, record: Record) -> None:
        fault = self._why_unreadable(record)
        if fault is not None:
            await dead_letter(self._publisher, record, fault)
            return
        tracing.caller.set(tracing.parent_in(record.headers))  # of this task alone
        header_key: str | None = None
        principal: Principal | None = None
        try:
            names = SIGNED_HEADERS if _header(record, SIGNATURE_HEADER) is not None else (KEY_HEADER,)
            headers = {name: value for name in names if (value := _text(_header(record, name))) is not None}
            principal = await self._authenticator.authenticate_record(headers, record.value or b"")
            require(principal, Permission.MESSAGES_SEND)
            header_key = idempotency_key_of(_header(record, IDEMPOTENCY_HEADER))
            command = await read_command(
                record.value or b"",
                header_key=header_key,
                fallback_key=_positional_key(record),
                submitted_at=_producer_time(record),
            )
            assert failpoints.hit("ingress.before_accept")
            await self._ingest.accept(command, principal, source=_SOURCE)
            assert failpoints.hit("ingress.accepted")
        except Unavailable:
            raise
        except ApiError as error:
            metrics.REQUESTS_REJECTED.labels(error.code, _SOURCE).inc()
            if principal is not None:
                await self._reject(record, principal, error, header_key)
            project_id = None if principal is None else principal.project_id
            await dead_letter(self._publisher, record, f"{error.code}: {error}", project_id=project_id)

    def _why_unreadable(self, record: Record) -> str | None:
        try:
            version = _text(_header(record, VERSION_HEADER)) or str(SCHEMA_VERSION)
        except ValidationFailed as error:
            return str(error)
        if version != str(SCHEMA_VERSION):
            return f"schema version {version[:32]!r} is not supported; this version reads {SCHEMA_VERSION}"
        if not record.value:
            return "the record is empty"
        if len(record.value) > self._max_body:
            return f"the Kafka record has more than {self._max_body} bytes"
        return None

    async def _reject(self, record: Record, principal: Principal, error: ApiError, idempotency_key: str | None) -> None:
        rejected = RequestRejected(
            project_id=principal.project_id,
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
        await wait_for_acks([self._publisher.publish(Topic.EVENTS, principal.project_id.bytes, rejected.encode())])
        assert failpoints.hit("ingress.rejected")


def _producer_time(record: Record) -> datetime | None:
    """When the producer wrote the record; its ``send_at`` and ``expires_at`` are judged by that time."""
    if not 0 < record.timestamp < utc_now().timestamp() * 1000:
        return None
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


def _positional_key(record: Record) -> str:
    """The idempotency key of a record without one: a record that is consumed twice is one request.

    It begins with a control character, so that no caller can use it. A replayed dead letter is the record that it
    repeats; the header of another producer can only name requests of its own project.
    """
    replayed = _text(_header(record, REPLAY_HEADER)) or ""
    return f"\x1f{replayed if _COORDINATES.fullmatch(replayed) else coordinates(record)}"


def _header(record: Record, name: str) -> bytes | None:
    """The value of a header, whose name may be in any case.

    Raises:
        ValidationFailed: the header is repeated with another value.
    """
    values = {value for found, value in record.headers if found.lower() == name}
    if len(values) > 1:
        raise ValidationFailed(f"The {name} header is repeated with different values.")
    return next(iter(values), None)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
