"""Kafka ingress: records on ``send.requests`` take the same path as HTTP requests.

A record is acknowledged when its message is stored and that is said on ``delivery.events``, when its request was
rejected there, or when it was dead-lettered; an outage of PostgreSQL holds the partition back and loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from gateway.auth.api_keys import KEY_HEADER, SIGNED_HEADERS, ApiKeyAuthenticator
from gateway.auth.permissions import Permission
from gateway.auth.principal import Principal, require
from gateway.errors import ApiError, Unavailable, ValidationFailed
from gateway.ingest.command import SendCommand
from gateway.ingest.ingest import AcceptedMessage, MessageIngest
from gateway.kit.responses import idempotency_key_of
from gateway.messages.v1_schemas import read_command
from sluice.bus.dead_letters import REPLAY_HEADER, coordinates, dead_letter
from sluice.bus.messages import (
    CORRELATION_HEADER,
    SCHEMA_VERSION,
    VERSION_HEADER,
    RequestAccepted,
    RequestRejected,
)
from sluice.bus.publisher import Publisher, wait_for_acks
from sluice.bus.topics import Topic
from sluice.bus.window import Record
from sluice.model.ids import encode_id
from sluice.runtime import failpoints, metrics, tracing
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice.store.record_signatures import IDEMPOTENCY_HEADER, SIGNATURE_HEADER

log = structlog.get_logger()

_RETRY_DELAY = 0.5  # seconds before a record is processed again while PostgreSQL or Kafka is unavailable
_SOURCE = "kafka"
_MAX_CORRELATION_ID = 255  # characters
_MAX_AGE = 7 * 24 * 3600.0  # seconds; the topic keeps records no longer
_COORDINATES = re.compile(r"[A-Za-z0-9._-]{1,249}/[0-9]{1,10}/[0-9]{1,19}@[0-9]{1,19}")


@dataclass(slots=True)
class _Request:
    """A record, with what is known so far of who is answered."""

    record: Record
    principal: Principal | None = None
    idempotency_key: str | None = None  # of the header, or of the body once that was read
    correlation_id: str | None = None

    def coordinates(self) -> dict[str, Any]:
        """The fields by which an answer names the record."""
        return {
            "idempotency_key": self.idempotency_key,
            "topic": self.record.topic,
            "partition": self.record.partition,
            "offset": self.record.offset,
            "occurred_at": utc_now(),
        }


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
        request = _Request(record)
        try:
            sender, command = await self._read(request)
            assert failpoints.hit("ingress.before_accept")
            accepted = await self._ingest.accept(command, sender, source=_SOURCE)
            assert failpoints.hit("ingress.accepted")
        except Unavailable:
            raise
        except ApiError as error:
            if request.principal is not None:
                await self._reject(request, request.principal, error)
            metrics.REQUESTS_REJECTED.labels(error.code, _SOURCE).inc()
            project_id = None if request.principal is None else request.principal.project_id
            await dead_letter(self._publisher, record, f"{error.code}: {error}", project_id=project_id)
        else:
            await self._confirm(request, sender, accepted)

    async def _read(self, request: _Request) -> tuple[Principal, SendCommand]:
        """The sender and the command of a request; what an answer needs is noted as soon as it is known.

        Raises:
            ApiError: the request is refused.
        """
        record, value = request.record, request.record.value or b""
        names = SIGNED_HEADERS if _header(record, SIGNATURE_HEADER) is not None else (KEY_HEADER,)
        headers = {name: text for name in names if (text := _text(_header(record, name))) is not None}
        sender = request.principal = await self._authenticator.authenticate_record(headers, value)
        require(sender, Permission.MESSAGES_SEND)
        request.correlation_id = _correlation_id(record)
        request.idempotency_key = idempotency_key_of(_header(record, IDEMPOTENCY_HEADER))
        positional_key = _positional_key(record)
        command = await read_command(
            value,
            header_key=request.idempotency_key,
            fallback_key=positional_key,
            submitted_at=_producer_time(record),
        )
        if command.idempotency_key != positional_key:
            request.idempotency_key = command.idempotency_key
        return sender, command

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

    async def _confirm(self, request: _Request, sender: Principal, accepted: AcceptedMessage) -> None:
        confirmed = RequestAccepted(
            **request.coordinates(),
            project_id=sender.project_id,
            message_id=accepted.message_id,
            id=encode_id("msg", accepted.message_id),
            replayed=accepted.replayed,
            sandbox=sender.is_test,
        )
        await self._answer(request, accepted.message_id, confirmed)

    async def _reject(self, request: _Request, sender: Principal, error: ApiError) -> None:
        rejected = RequestRejected(
            **request.coordinates(),
            project_id=sender.project_id,
            code=error.code,
            message=str(error),
            field=error.field,
        )
        assert failpoints.hit("ingress.before_reject")
        await self._answer(request, sender.project_id, rejected)
        assert failpoints.hit("ingress.rejected")

    async def _answer(self, request: _Request, key: UUID, answer: RequestAccepted | RequestRejected) -> None:
        """Publish the answer to a record.

        No outbox covers it: the record is acknowledged after Kafka has stored it. A gateway that consumes the record
        again finds the stored message, or the same fault, and answers again (docs/decisions/0080).

        Raises:
            Unavailable: Kafka has not stored it.
        """
        correlation_id = request.correlation_id
        headers = None if correlation_id is None else {CORRELATION_HEADER: correlation_id}
        assert failpoints.hit("ingress.before_answer")
        if not await wait_for_acks([self._publisher.publish(Topic.EVENTS, key.bytes, answer.encode(), headers)]):
            raise Unavailable("Kafka has not stored the answer to a record.")
        assert failpoints.hit("ingress.answered")


def _producer_time(record: Record) -> datetime | None:
    """When the producer wrote the record; its ``send_at`` and ``expires_at`` are judged by that time.

    None for a time that cannot be right: the producer's clock is wrong.
    """
    age = utc_now().timestamp() - record.timestamp / 1000
    return datetime.fromtimestamp(record.timestamp / 1000, UTC) if 0 < age <= _MAX_AGE else None


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


def _correlation_id(record: Record) -> str | None:
    """The header that the answer repeats, so that its reader finds what it belongs to.

    Raises:
        ValidationFailed: it is no text of at most 255 characters.
    """
    value = _header(record, CORRELATION_HEADER)
    if value is None:
        return None
    with contextlib.suppress(UnicodeDecodeError):
        if len(text := value.decode()) <= _MAX_CORRELATION_ID:
            return text
    raise ValidationFailed(
        f"The {CORRELATION_HEADER} header is no UTF-8 of at most {_MAX_CORRELATION_ID} characters.",
        field=CORRELATION_HEADER,
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
