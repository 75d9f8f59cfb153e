"""The one function behind both doors: validate, record, publish, answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import structlog
from pydantic import ValidationError

from gateway.errors import IdempotencyConflict, Invalid, Unavailable, invalid
from gateway.ingest.dispatch_quota import Room
from gateway.messages import v1_schemas
from sluice.bus.messages import Drive
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Topic
from sluice.model.ids import InvalidIdError, read, time_of
from sluice.model.message import Channel
from sluice.runtime import failpoints, metrics
from sluice.runtime.batching import Batcher, OverloadedError
from sluice.runtime.clock import utc_now
from sluice.runtime.fail_after import Patience
from sluice.runtime.tasks import end, lasting
from sluice.store import cancellation, ingest
from sluice.store.config_cache import Configuration
from sluice.store.configuration import ApiKey, Project
from sluice.store.db import UNAVAILABLE, Pool
from sluice.store.ingest import Conflicting, NewMessage, Recorded, Replayed, Verdict

log = structlog.get_logger()

_WAIT = 0.8  # seconds a request may wait for Postgres before it is refused
_DOUBT = 20.0  # seconds, with Postgres answering, after which a commit that was in doubt cannot appear any more
_WITHDRAW_EVERY = 0.5  # seconds


class Accepted(NamedTuple):
    """The answer to a send request."""

    message_id: UUID
    project_id: UUID
    channel: Channel
    created_at: datetime
    replayed: bool


class Acceptance:
    """Takes requests from any door; concurrent ones share a commit."""

    def __init__(
        self,
        pool: Pool,
        configuration: Configuration,
        publisher: Publisher,
        *,
        redrive: timedelta,
        waiting: int,
        conveyor: int,
    ) -> None:
        self._pool = pool
        self._configuration = configuration
        self._publisher = publisher
        self._redrive = redrive
        self._room = Room(conveyor)
        self._patience = Patience(_WAIT)
        self._doubtful: dict[UUID, float] = {}  # message, and the monotonic time until which it is looked for
        self._batcher: Batcher[NewMessage, Verdict] = Batcher(
            self._record,
            name="accept",
            size=200,
            parallel=2,
            pace=0.008,  # a commit for each two or three requests costs a third more CPU at 700 a second
            limit=waiting,
            split_on=(asyncpg.DataError, ValueError),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Acceptance]:
        """Accept until the block ends; what was taken is recorded and answered."""
        keepers = [
            lasting(self._withdraw_regularly(), name="withdraw"),
            lasting(self._room.keep(self._pool), name="room"),
        ]
        try:
            async with self._batcher.running():
                yield self
        finally:
            await end(*keepers)

    def piles(self, key: ApiKey) -> bool:
        """Whether what the key's project sends would only wait in the record now, unless it is urgent."""
        return self._room.piles(key.project_id)

    async def accept(
        self,
        body: bytes,
        key: ApiKey,
        *,
        door: str,
        header_key: str | None = None,
        own_key: str | None = None,
        asked_at: datetime | None = None,
    ) -> Accepted:
        """Record one send request of the key's project and put it on the conveyor.

        ``own_key``: the idempotency key of a request that brings none, from a door through which one may come twice.
        ``asked_at``: when its caller let go of it, if that is not now; its times are judged by that.

        Raises:
            ApiError: Invalid, IdempotencyConflict, or Unavailable; in each case nothing was recorded.
        """
        request, document, idempotency_key = _parsed(body, header_key)
        idempotency_key = idempotency_key or own_key
        fingerprint = v1_schemas.fingerprint(document) if idempotency_key else b""
        try:
            message = self._to_record(request, key, idempotency_key, fingerprint, asked_at)
        except Invalid:
            # What was right when it was asked first may be wrong by now: a repeat gets the first answer all the same.
            before = await self._answered_before(request, key, idempotency_key, fingerprint)
            if before is None:
                raise
            return before
        try:
            verdict = await self._patience.limit(self._batcher.submit(message))
        except OverloadedError:
            raise Unavailable("too many requests are waiting to be recorded; try again") from None
        except UNAVAILABLE as error:
            self._doubt(message)
            raise Unavailable("the request could not be recorded; try again") from error
        match verdict:
            case Recorded():
                assert failpoints.at("accept.before_publish")
                self._drive(message)
                assert failpoints.at("accept.published")
                metrics.of(metrics.ACCEPTED, message.channel.value, door).inc()
                return Accepted(message.id, message.project_id, message.channel, message.created_at, replayed=False)
            case Replayed(first):
                return Accepted(first, message.project_id, message.channel, time_of(first), replayed=True)
            case Conflicting():
                raise _conflict()

    def _to_record(
        self,
        request: v1_schemas.Body,
        key: ApiKey,
        idempotency_key: str | None,
        fingerprint: bytes,
        asked_at: datetime | None,
    ) -> NewMessage:
        project = self._configuration.projects.get(key.project_id)
        now = _milliseconds(utc_now())
        _check_times(request, now, asked_at=min(now, asked_at or now))
        sender = _sender(request, project)
        message = v1_schemas.to_record(
            request,
            project_id=key.project_id,
            sender=sender,
            sandbox=key.sandbox,
            key=idempotency_key,
            fingerprint=fingerprint,
            preferred=self._preferred(request, key.project_id),
            now=now,
            redrive=self._redrive,
        )
        if message.send_at or self._room.take(key.project_id, message.channel, message.class_, len(message.deliveries)):
            return message
        return message._replace(waits=True, due_at=now)

    async def _answered_before(
        self, request: v1_schemas.Body, key: ApiKey, idempotency_key: str | None, fingerprint: bytes
    ) -> Accepted | None:
        """The answer that this key got, if it was ever used."""
        if idempotency_key is None:
            return None
        try:
            async with asyncio.timeout(_WAIT):
                held = await ingest.held_by(self._pool, key.project_id, idempotency_key, now=utc_now())
        except UNAVAILABLE as error:
            raise Unavailable("the request could not be recorded; try again") from error
        if held is None:
            return None
        message_id, first = held
        if first != fingerprint:
            raise _conflict()
        return Accepted(message_id, key.project_id, Channel(request.channel), time_of(message_id), replayed=True)

    def _preferred(self, request: v1_schemas.Body, project_id: UUID) -> UUID | None:
        """The provider that the request names by id or package; one that does not exist is an error."""
        named = request.preferred_provider
        if named is None:
            return None
        with contextlib.suppress(InvalidIdError):
            wanted = read("prv", named)
            row = self._configuration.providers.get(wanted)
            if row and row.project_id == project_id and row.channel == request.channel and not row.deleted:
                return wanted
        for row in self._configuration.candidates(project_id, Channel(request.channel)):
            if row.package == named:
                return row.id
        raise Invalid(
            "preferred_provider: the project has no such provider for this channel", field="preferred_provider"
        )

    async def _record(self, batch: Sequence[NewMessage]) -> list[Verdict]:
        async with self._pool.acquire(timeout=_WAIT) as connection:
            assert failpoints.at("accept.before_commit")
            verdicts = await ingest.accept(connection, batch)
            assert failpoints.at("accept.committed")
            return verdicts

    def _doubt(self, message: NewMessage) -> None:
        """The caller hears 503, but the commit may have been on its way: see to it that nothing was accepted."""
        if message.idempotency_key is None:
            self._doubtful[message.id] = time.monotonic() + _DOUBT

    async def _withdraw_regularly(self) -> None:
        while True:
            await asyncio.sleep(_WITHDRAW_EVERY)
            if not self._doubtful:
                continue
            try:
                assert failpoints.at("withdraw.before_write")
                withdrawn = await cancellation.withdraw(self._pool, list(self._doubtful), now=utc_now())
            except UNAVAILABLE:
                self._doubtful = dict.fromkeys(self._doubtful, time.monotonic() + _DOUBT)
                continue
            assert failpoints.at("withdraw.written")
            if withdrawn:
                log.info("withdrawn", deliveries=withdrawn)
            now = time.monotonic()
            self._doubtful = {id_: until for id_, until in self._doubtful.items() if until > now}

    def _drive(self, message: NewMessage) -> None:
        """Put the deliveries on the conveyor. If Kafka does not take them the recovery loop will, as it does with
        those that wait in the record.
        """
        if message.send_at is not None or message.waits:
            return
        for delivery in message.deliveries:
            drive = Drive.encoded(
                delivery_id=delivery.id,
                message_id=message.id,
                project_id=message.project_id,
                channel=message.channel,
                class_=message.class_,
                driven_at=message.created_at,
                expires_at=message.expires_at,
                preferred=message.preferred,
                sandbox=message.sandbox,
            )
            self._publisher.publish(Topic.ACCEPTED, None, drive)


def _conflict() -> IdempotencyConflict:
    return IdempotencyConflict("the idempotency key was used for a request with another body")


def _parsed(body: bytes, header_key: str | None) -> tuple[v1_schemas.Body, dict[str, Any], str | None]:
    """The request, the document it is, and its idempotency key: what follows from the bytes alone."""
    try:
        request, document = v1_schemas.parse(body)
    except ValidationError as error:
        raise invalid(error) from None
    except (RecursionError, UnicodeDecodeError):
        raise Invalid("the body is not valid JSON") from None
    if header_key and request.idempotency_key and header_key != request.idempotency_key:
        raise Invalid("idempotency_key: differs from the Idempotency-Key header", field="idempotency_key")
    return request, document, request.idempotency_key or _header_key(header_key)


def _milliseconds(now: datetime) -> datetime:
    """As exact as an id is, so that a replayed answer shows the same time."""
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _header_key(text: str | None) -> str | None:
    if text is not None and (not 0 < len(text) <= 255 or not text.isprintable()):
        raise Invalid("the Idempotency-Key header must have 1 to 255 printable characters", field="idempotency_key")
    return text


def _sender(request: v1_schemas.Body, project: Project | None) -> str | None:
    default = project.default_sender if project else None
    if isinstance(request, v1_schemas.EmailBody) and request.from_ is None and default is None:
        raise Invalid("from: is required, because the project has no default sender", field="from")
    return default


def _check_times(request: v1_schemas.Body, now: datetime, *, asked_at: datetime) -> None:
    for field in ("send_at", "expires_at"):
        moment: datetime | None = getattr(request, field)
        if moment is not None and not asked_at < moment <= now + v1_schemas.LONGEST_LIFETIME:
            raise Invalid(f"{field}: must lie in the future, at most 30 days ahead", field=field)
