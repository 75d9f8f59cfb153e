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

from gateway.errors import IdempotencyConflict, Unavailable, ValidationFailed, from_validation_error
from gateway.ingest.dispatch_quota import DispatchQuota
from gateway.messages import v1_schemas
from sluice.bus.messages import DeliveryTask
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Topic
from sluice.model.ids import InvalidIdError, created_at_of, decode_id
from sluice.model.message import Channel
from sluice.runtime import failpoints, metrics
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.runtime.clock import utc_now
from sluice.runtime.deadline import fail_after
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import cancellation, ingest
from sluice.store.api_keys import ApiKey
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.ingest import Conflict, Created, InsertResult, NewMessage, Replayed
from sluice.store.projects import Project

log = structlog.get_logger()

_DB_TIMEOUT = 0.8  # seconds a request may wait for Postgres before it is refused
_IN_DOUBT_TTL = 20.0  # seconds, with Postgres answering, after which a commit that was in doubt cannot appear any more
_REVOKE_INTERVAL = 0.5  # seconds


class AcceptedMessage(NamedTuple):
    """The answer to a send request."""

    message_id: UUID
    project_id: UUID
    channel: Channel
    created_at: datetime
    replayed: bool


class MessageIngest:
    """Takes requests from any door; concurrent ones share a commit."""

    def __init__(
        self,
        pool: Pool,
        config: ConfigCache,
        publisher: Publisher,
        *,
        requeue_after: timedelta,
        max_pending: int,
        dispatch_queue_limit: int,
    ) -> None:
        self._pool = pool
        self._config = config
        self._publisher = publisher
        self._requeue_after = requeue_after
        self._quota = DispatchQuota(dispatch_queue_limit)
        self._in_doubt: dict[UUID, float] = {}  # message, and the monotonic time until which it is looked for
        self._batcher: Batcher[NewMessage, InsertResult] = Batcher(
            self._insert,
            name="accept",
            size=200,
            parallel=2,
            pace=0.008,  # a commit for each two or three requests costs a third more CPU at 700 a second
            limit=max_pending,
            split_on=(asyncpg.DataError, ValueError),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MessageIngest]:
        """Accept until the block ends; what was taken is recorded and answered."""
        keepers = [
            supervised(self._revoke_in_doubt_loop(), name="withdraw"),
            supervised(self._quota.run(self._pool), name="room"),
        ]
        try:
            async with self._batcher.running():
                yield self
        finally:
            await cancel_and_wait(*keepers)

    def over_quota(self, key: ApiKey) -> bool:
        """Whether what the key's project sends would only wait in the record now, unless it is urgent."""
        return self._quota.is_backlogged(key.project_id)

    async def accept(
        self,
        body: bytes,
        key: ApiKey,
        *,
        source: str,
        header_key: str | None = None,
        fallback_key: str | None = None,
        submitted_at: datetime | None = None,
    ) -> AcceptedMessage:
        """Record one send request of the key's project and put it on the conveyor.

        ``fallback_key``: the idempotency key of a request that brings none, from a door through which one may come twice.
        ``submitted_at``: when its caller let go of it, if that is not now; its times are judged by that.

        Raises:
            ApiError: Invalid, IdempotencyConflict, or Unavailable; in each case nothing was recorded.
        """
        request, document, idempotency_key = _parsed(body, header_key)
        idempotency_key = idempotency_key or fallback_key
        fingerprint = v1_schemas.fingerprint(document) if idempotency_key else b""
        try:
            message = self._to_new_message(request, key, idempotency_key, fingerprint, submitted_at)
        except ValidationFailed:
            # What was right when it was asked first may be wrong by now: a repeat gets the first answer all the same.
            before = await self._find_replay(request, key, idempotency_key, fingerprint)
            if before is None:
                raise
            return before
        try:
            verdict = await fail_after(self._batcher.submit(message), _DB_TIMEOUT)
        except QueueFullError:
            raise Unavailable("too many requests are waiting to be recorded; try again") from None
        except UNAVAILABLE_ERRORS as error:
            self._mark_in_doubt(message)
            raise Unavailable("the request could not be recorded; try again") from error
        match verdict:
            case Created():
                assert failpoints.hit("accept.before_publish")
                self._enqueue(message)
                assert failpoints.hit("accept.published")
                metrics.series(metrics.MESSAGES_ACCEPTED, message.channel.value, source).inc()
                return AcceptedMessage(
                    message.id, message.project_id, message.channel, message.created_at, replayed=False
                )
            case Replayed(first):
                return AcceptedMessage(first, message.project_id, message.channel, created_at_of(first), replayed=True)
            case Conflict():
                raise _conflict()

    def _to_new_message(
        self,
        request: v1_schemas.SendRequest,
        key: ApiKey,
        idempotency_key: str | None,
        fingerprint: bytes,
        submitted_at: datetime | None,
    ) -> NewMessage:
        project = self._config.projects.get(key.project_id)
        now = _milliseconds(utc_now())
        _check_times(request, now, submitted_at=min(now, submitted_at or now))
        sender = _sender(request, project)
        message = v1_schemas.to_new_message(
            request,
            project_id=key.project_id,
            sender=sender,
            sandbox=key.is_test,
            key=idempotency_key,
            fingerprint=fingerprint,
            preferred_provider_id=self._preferred(request, key.project_id),
            now=now,
            requeue_after=self._requeue_after,
        )
        if message.send_at or self._quota.try_reserve(
            key.project_id, message.channel, message.delivery_class, len(message.deliveries)
        ):
            return message
        return message._replace(backlogged=True, due_at=now)

    async def _find_replay(
        self, request: v1_schemas.SendRequest, key: ApiKey, idempotency_key: str | None, fingerprint: bytes
    ) -> AcceptedMessage | None:
        """The answer that this key got, if it was ever used."""
        if idempotency_key is None:
            return None
        try:
            async with asyncio.timeout(_DB_TIMEOUT):
                held = await ingest.find_by_idempotency_key(self._pool, key.project_id, idempotency_key, now=utc_now())
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable("the request could not be recorded; try again") from error
        if held is None:
            return None
        message_id, first = held
        if first != fingerprint:
            raise _conflict()
        return AcceptedMessage(
            message_id, key.project_id, Channel(request.channel), created_at_of(message_id), replayed=True
        )

    def _preferred(self, request: v1_schemas.SendRequest, project_id: UUID) -> UUID | None:
        """The provider that the request names by id or package; one that does not exist is an error."""
        named = request.preferred_provider
        if named is None:
            return None
        with contextlib.suppress(InvalidIdError):
            wanted = decode_id("prv", named)
            row = self._config.providers.get(wanted)
            if row and row.project_id == project_id and row.channel == request.channel and not row.deleted:
                return wanted
        for row in self._config.candidates(project_id, Channel(request.channel)):
            if row.package == named:
                return row.id
        raise ValidationFailed(
            "preferred_provider: the project has no such provider for this channel", field="preferred_provider"
        )

    async def _insert(self, batch: Sequence[NewMessage]) -> list[InsertResult]:
        async with self._pool.acquire(timeout=_DB_TIMEOUT) as connection:
            assert failpoints.hit("accept.before_commit")
            verdicts = await ingest.insert_batch(connection, batch)
            assert failpoints.hit("accept.committed")
            return verdicts

    def _mark_in_doubt(self, message: NewMessage) -> None:
        """The caller hears 503, but the commit may have been on its way: see to it that nothing was accepted."""
        if message.idempotency_key is None:
            self._in_doubt[message.id] = time.monotonic() + _IN_DOUBT_TTL

    async def _revoke_in_doubt_loop(self) -> None:
        while True:
            await asyncio.sleep(_REVOKE_INTERVAL)
            if not self._in_doubt:
                continue
            try:
                assert failpoints.hit("revoke.before_write")
                withdrawn = await cancellation.revoke_in_doubt(self._pool, list(self._in_doubt), now=utc_now())
            except UNAVAILABLE_ERRORS:
                self._in_doubt = dict.fromkeys(self._in_doubt, time.monotonic() + _IN_DOUBT_TTL)
                continue
            assert failpoints.hit("revoke.written")
            if withdrawn:
                log.info("in_doubt_message_revoked", deliveries=withdrawn)
            now = time.monotonic()
            self._in_doubt = {id_: until for id_, until in self._in_doubt.items() if until > now}

    def _enqueue(self, message: NewMessage) -> None:
        """Put the deliveries on the conveyor. If Kafka does not take them the recovery loop will, as it does with
        those that wait in the record.
        """
        if message.send_at is not None or message.backlogged:
            return
        for delivery in message.deliveries:
            task = DeliveryTask.encode_unchecked(
                delivery_id=delivery.id,
                message_id=message.id,
                project_id=message.project_id,
                channel=message.channel,
                delivery_class=message.delivery_class,
                enqueued_at=message.created_at,
                expires_at=message.expires_at,
                preferred_provider_id=message.preferred_provider_id,
                sandbox=message.sandbox,
            )
            self._publisher.publish(Topic.ACCEPTED, None, task)


def _conflict() -> IdempotencyConflict:
    return IdempotencyConflict("the idempotency key was used for a request with another body")


def _parsed(body: bytes, header_key: str | None) -> tuple[v1_schemas.SendRequest, dict[str, Any], str | None]:
    """The request, the document it is, and its idempotency key: what follows from the bytes alone."""
    try:
        request, document = v1_schemas.parse(body)
    except ValidationError as error:
        raise from_validation_error(error) from None
    except (RecursionError, UnicodeDecodeError):
        raise ValidationFailed("the body is not valid JSON") from None
    if header_key and request.idempotency_key and header_key != request.idempotency_key:
        raise ValidationFailed("idempotency_key: differs from the Idempotency-Key header", field="idempotency_key")
    return request, document, request.idempotency_key or _header_key(header_key)


def _milliseconds(now: datetime) -> datetime:
    """As exact as an id is, so that a replayed answer shows the same time."""
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _header_key(text: str | None) -> str | None:
    if text is not None and (not 0 < len(text) <= 255 or not text.isprintable()):
        raise ValidationFailed(
            "the Idempotency-Key header must have 1 to 255 printable characters", field="idempotency_key"
        )
    return text


def _sender(request: v1_schemas.SendRequest, project: Project | None) -> str | None:
    default = project.default_sender if project else None
    if isinstance(request, v1_schemas.EmailRequest) and request.from_ is None and default is None:
        raise ValidationFailed("from: is required, because the project has no default sender", field="from")
    return default


def _check_times(request: v1_schemas.SendRequest, now: datetime, *, submitted_at: datetime) -> None:
    for field in ("send_at", "expires_at"):
        moment: datetime | None = getattr(request, field)
        if moment is not None and not submitted_at < moment <= now + v1_schemas.MAX_LIFETIME:
            raise ValidationFailed(f"{field}: must lie in the future, at most 30 days ahead", field=field)
