"""Ingest: the one path from a send command to stored deliveries, for every API and for Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from gateway.auth.principal import Principal
from gateway.errors import IdempotencyConflict, QuotaExceeded, Unavailable, ValidationFailed
from gateway.ingest.command import MAX_LIFETIME, SendCommand, to_new_message
from gateway.ingest.dispatch_quota import DispatchQuota
from gateway.ingest.in_doubt import InDoubtMessages
from gateway.ingest.project_quota import UNLIMITED, ProjectQuota, QuotaLimits
from gateway.kit.preferred_provider import find_preferred
from sluice.bus.messages import DeliveryTask
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Topic
from sluice.model.destination import destination_of
from sluice.model.ids import created_at_of
from sluice.model.message import Channel
from sluice.runtime import failpoints, metrics
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.runtime.clock import utc_now
from sluice.runtime.deadline import fail_after
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import ingest
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool, rows_of
from sluice.store.ingest import Conflict, Created, InsertResult, NewMessage, Replayed

_DB_TIMEOUT = 0.8  # seconds, see _time_limit
_DB_RATE = 2 << 20  # bytes per second that PostgreSQL stores at least
_LARGE = 256 << 10  # bytes of a message that is stored by itself, so that small ones do not wait for it
_MAX_LARGE = 20  # of them that wait at once; each is in memory
_NOT_STORED = "The request could not be stored: the database is unavailable. Retry later."


class AcceptedMessage(NamedTuple):
    """The answer to a send command."""

    message_id: UUID
    project_id: UUID
    channel: Channel
    created_at: datetime
    replayed: bool


class MessageIngest:
    """Stores messages and enqueues their deliveries; concurrent commands share a commit."""

    def __init__(
        self,
        pool: Pool,
        config: ConfigCache,
        publisher: Publisher,
        *,
        requeue_after: timedelta,
        max_pending: int,
        dispatch_queue_limit: int,
        project_limits: QuotaLimits = UNLIMITED,
    ) -> None:
        self._pool = pool
        self._config = config
        self._publisher = publisher
        self._requeue_after = requeue_after
        self._quota = DispatchQuota(dispatch_queue_limit)
        self._project_quota = ProjectQuota(project_limits)
        self._in_doubt = InDoubtMessages(pool)
        self._batcher: Batcher[NewMessage, InsertResult] = Batcher(
            self._insert,
            name="accept",
            size=200,
            parallel=2,
            pace=0.008,  # a commit for each two or three requests costs a third more CPU at 700 a second
            limit=max_pending,
            split_on=(asyncpg.DataError, ValueError),
        )
        self._large: Batcher[NewMessage, InsertResult] = Batcher(
            self._insert, name="accept-large", size=1, parallel=2, limit=_MAX_LARGE
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MessageIngest]:
        """Accept until the block ends; commands that were submitted until then are stored and answered."""
        tasks = [
            supervised(self._in_doubt.run(), name="in-doubt"),
            supervised(self._quota.run(self._pool), name="dispatch-quota"),
            supervised(self._project_quota.run(self._pool), name="project-quota"),
        ]
        try:
            async with self._batcher.running(), self._large.running():
                yield self
        finally:
            await cancel_and_wait(*tasks)

    def over_quota(self, principal: Principal) -> bool:
        """Whether deliveries of the principal's project would enter the backlog now, unless they are urgent."""
        return self._quota.is_backlogged(principal.project_id)

    async def accept(self, command: SendCommand, principal: Principal, *, source: str) -> AcceptedMessage:
        """Store the message of ``command`` in the principal's project and enqueue its deliveries.

        ``source`` labels the metrics: ``http`` or ``kafka``.

        Raises:
            ValidationFailed: the command does not fit the project, or its times have passed.
            QuotaExceeded: the project has used one of its quotas.
            IdempotencyConflict: the idempotency key was used for another request.
            Unavailable: the message could not be stored.
            In each case nothing is accepted.
        """
        started = time.monotonic()
        try:
            message = self._to_new_message(command, principal)
        except (ValidationFailed, QuotaExceeded):
            # What was right at the first request may be wrong by now: a repeat gets the first answer all the same.
            replay = await self._find_replay(command, principal)
            if replay is None:
                raise
            return replay
        match await self._store(message):
            case Created():
                assert failpoints.hit("accept.before_publish")
                self._enqueue(message)
                assert failpoints.hit("accept.published")
                self._project_quota.count(message)
                metrics.series(metrics.MESSAGES_ACCEPTED, message.channel.value, source).inc()
                metrics.series(metrics.ACCEPT_DURATION, source).observe(time.monotonic() - started)
                return AcceptedMessage(
                    message.id, message.project_id, message.channel, message.created_at, replayed=False
                )
            case Replayed(first):
                return AcceptedMessage(first, message.project_id, message.channel, created_at_of(first), replayed=True)
            case Conflict():
                raise _conflict()

    def _to_new_message(self, command: SendCommand, principal: Principal) -> NewMessage:
        now = _milliseconds(utc_now())
        _check_times(command, now)
        message = to_new_message(
            command,
            project_id=principal.project_id,
            sender=self._sender(command, principal.project_id),
            sandbox=principal.is_test,
            preferred_provider_id=None
            if command.preferred_provider is None
            else find_preferred(self._config, principal.project_id, command.channel, command.preferred_provider),
            now=now,
            requeue_after=self._requeue_after,
        )
        self._project_quota.check(message)
        if message.send_at or self._quota.try_reserve(
            principal.project_id, message.channel, message.delivery_class, len(message.deliveries)
        ):
            return message
        return message._replace(backlogged=True, due_at=now)

    async def _store(self, message: NewMessage) -> InsertResult:
        batcher = self._batcher if _size(message) < _LARGE else self._large
        try:
            return await fail_after(batcher.submit(message), _time_limit(message))
        except QueueFullError:
            raise Unavailable("Too many requests are waiting for the database. Retry later.") from None
        except UNAVAILABLE_ERRORS as error:
            if message.idempotency_key is None:  # with a key, the same request again finds out
                self._in_doubt.add(message.id, message.project_id)
            raise Unavailable(_NOT_STORED) from error

    async def _insert(self, batch: Sequence[NewMessage]) -> list[InsertResult]:
        async with self._pool.acquire(timeout=max(map(_time_limit, batch))) as connection:
            assert failpoints.hit("accept.before_commit")
            results = await ingest.insert_batch(connection, batch)
            assert failpoints.hit("accept.committed")
            return results

    async def _find_replay(self, command: SendCommand, principal: Principal) -> AcceptedMessage | None:
        """The answer to the first request with this idempotency key, if there was one."""
        if command.idempotency_key is None:
            return None
        try:
            async with asyncio.timeout(_DB_TIMEOUT):
                async with rows_of(self._pool, [principal.project_id]) as db:
                    found = await ingest.find_by_idempotency_key(
                        db, principal.scope, command.idempotency_key, now=utc_now()
                    )
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable(_NOT_STORED) from error
        if found is None:
            return None
        message_id, first = found
        if first != command.fingerprint:
            raise _conflict()
        return AcceptedMessage(
            message_id, principal.project_id, command.channel, created_at_of(message_id), replayed=True
        )

    def _sender(self, command: SendCommand, project_id: UUID) -> str | None:
        if command.sender is not None or command.channel is not Channel.EMAIL:
            return command.sender
        project = self._config.projects.get(project_id)
        if project is None or project.default_sender is None:
            raise ValidationFailed("from: is required, because the project has no default sender", field="from")
        return project.default_sender

    def _enqueue(self, message: NewMessage) -> None:
        """Publish the delivery tasks. The recovery loop enqueues what Kafka does not store, and the backlog."""
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
                destination=destination_of(message.channel, delivery.recipient),
                sandbox=message.sandbox,
            )
            self._publisher.publish(Topic.ACCEPTED, None, task)


def _size(message: NewMessage) -> int:
    """The bytes that PostgreSQL stores, roughly."""
    return len(message.content) + sum(len(content) for _, content in message.attachments)


def _time_limit(message: NewMessage) -> float:
    """Seconds that a request may wait for PostgreSQL before it is refused."""
    return _DB_TIMEOUT + _size(message) / _DB_RATE


def _conflict() -> IdempotencyConflict:
    return IdempotencyConflict("The idempotency key was used for a request with another body.")


def _milliseconds(now: datetime) -> datetime:
    """As exact as an id, so that a replayed answer shows the same time."""
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _check_times(command: SendCommand, now: datetime) -> None:
    if command.send_at is None and command.expires_at is None:
        return
    submitted_at = min(now, command.submitted_at or now)
    for field, moment in (("send_at", command.send_at), ("expires_at", command.expires_at)):
        if moment is not None and not submitted_at < moment <= now + MAX_LIFETIME:
            raise ValidationFailed(f"{field}: must lie in the future, at most 30 days ahead", field=field)
