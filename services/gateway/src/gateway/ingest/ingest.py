"""Ingest: the one path from a send command to stored deliveries, for every API and for Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

import asyncpg

from gateway.auth.principal import Principal
from gateway.domains.checker import DomainChecker
from gateway.errors import ApiError, ChannelDisabled, IdempotencyConflict, Unavailable, ValidationFailed
from gateway.ingest.command import MAX_LIFETIME, SendCommand, to_new_message
from gateway.ingest.dispatch_quota import DispatchQuota
from gateway.ingest.in_doubt import InDoubtMessages
from gateway.ingest.project_quota import UNLIMITED, ProjectQuota, QuotaLimits
from gateway.ingest.suppression import mark_suppressed
from gateway.kit.chunks import MAX_DELIVERIES
from gateway.kit.preferred_provider import find_preferred
from gateway.templates.rendering import TemplateRenderer
from gateway.unsubscribe.links import Subscription, UnsubscribeLinks
from sluice.bus.messages import DeliveryTask
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Topic
from sluice.delivery.outbox import OutboxPublisher
from sluice.model.address import parse_address
from sluice.model.destination import destination_of
from sluice.model.ids import created_at_of, encode_id
from sluice.model.message import Channel
from sluice.model.reasons import Reason
from sluice.model.state import EventType, State
from sluice.runtime import failpoints, metrics, tracing
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.runtime.clock import utc_now
from sluice.runtime.deadline import fail_after
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import ingest
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Connection, Pool, rows_of
from sluice.store.ingest import SUPPRESSED_SEQUENCE, Conflict, Created, InsertResult, NewMessage, Replayed

_DB_TIMEOUT = 0.8  # seconds, see _time_limit
_DB_RATE = 2 << 20  # bytes per second that PostgreSQL stores at least
_LARGE = 256 << 10  # bytes of a message that is stored by itself, so that small ones do not wait for it
_MAX_LARGE = 20  # of them that wait at once; each is in memory
_PREPARED = 50  # deliveries that a batch prepares before other tasks run
_NOT_STORED = "The request could not be stored: the database is unavailable. Retry later."


class AcceptedMessage(NamedTuple):
    """The answer to a send command."""

    message_id: UUID
    project_id: UUID
    channel: Channel
    created_at: datetime
    replayed: bool


Accepted = AcceptedMessage | ApiError
"""What became of one of several send commands."""


class _Stored(NamedTuple):
    """A message as it was inserted: its suppressed recipients are marked."""

    message: NewMessage
    result: InsertResult


class MessageIngest:
    """Stores messages and enqueues their deliveries; concurrent commands share a commit."""

    def __init__(
        self,
        pool: Pool,
        config: ConfigCache,
        publisher: Publisher,
        *,
        outbox: OutboxPublisher,
        templates: TemplateRenderer,
        unsubscribe_links: UnsubscribeLinks,
        domains: DomainChecker,
        requeue_after: timedelta,
        max_pending: int,
        dispatch_queue_limit: int,
        project_limits: QuotaLimits = UNLIMITED,
    ) -> None:
        self._pool = pool
        self._config = config
        self._publisher = publisher
        self._outbox = outbox
        self._templates = templates
        self._unsubscribe_links = unsubscribe_links
        self._domains = domains
        self._requeue_after = requeue_after
        self._quota = DispatchQuota(dispatch_queue_limit)
        self._project_quota = ProjectQuota(project_limits)
        self._in_doubt = InDoubtMessages(pool)
        self._batcher: Batcher[NewMessage, _Stored] = Batcher(
            self._insert,
            name="accept",
            size=200,
            parallel=2,
            pace=0.008,  # a commit for each two or three requests costs a third more CPU at 700 a second
            limit=max_pending,
            split_on=(asyncpg.DataError, ValueError),
            weigh=lambda message: len(message.deliveries),
            max_weight=MAX_DELIVERIES,
        )
        self._large: Batcher[NewMessage, _Stored] = Batcher(
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
            ChannelDisabled: the project's configuration has disabled the channel.
            QuotaExceeded: the project has used one of its quotas.
            ApiError: the command's fault.
            IdempotencyConflict: the idempotency key was used for another request.
            Unavailable: the message could not be stored.
            In each case nothing is accepted.
        """
        with tracing.begin("accept", source=source) as span:
            accepted = await self._accept(command, principal, source, span)
            if span.traceparent is not None:
                span.set(message=encode_id("msg", accepted.message_id), replayed=accepted.replayed)
            return accepted

    async def _accept(
        self, command: SendCommand, principal: Principal, source: str, span: tracing.Span
    ) -> AcceptedMessage:
        started = time.monotonic()
        try:
            message = await self._prepare(command, principal, _milliseconds(utc_now()))
        except Unavailable:
            raise
        except ApiError as error:
            [replay] = await self._find_replays([(command, error)], principal)
            if isinstance(replay, ApiError):
                raise replay from None
            return replay
        message, result = await self._store(_traced(message, span))
        if isinstance(result, Created):
            self.created(message, source)
            metrics.series(metrics.ACCEPT_DURATION, source).observe(time.monotonic() - started)
        accepted = _result(message, result)
        if isinstance(accepted, ApiError):
            raise accepted
        return accepted

    async def prepare_batch(
        self, commands: Sequence[SendCommand | ApiError], principal: Principal, *, source: str
    ) -> MessageBatch:
        """The messages of several commands, for one transaction.

        ``commands``: with the errors of those that could not be read. What :meth:`accept` would refuse becomes its
        error.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        now = _milliseconds(utc_now())
        deliveries = 0  # that were prepared since other tasks ran
        items: list[NewMessage | Accepted] = []
        refused: dict[int, tuple[SendCommand, ApiError]] = {}
        for before, command in zip(range(len(commands) - 1, -1, -1), commands, strict=True):
            # A millisecond each: the deliveries of a message are found by it.
            with tracing.begin("accept", source=source) as span:  # without the time of the common transaction
                if isinstance(command, ApiError):
                    items.append(command)
                    continue
                try:
                    message = await self._prepare(command, principal, now - timedelta(milliseconds=before))
                    items.append(_traced(message, span))
                    deliveries += len(message.deliveries)
                except Unavailable:
                    raise
                except ApiError as error:
                    refused[len(items)] = command, error
                    items.append(error)
            if deliveries >= _PREPARED:
                deliveries = 0
                await asyncio.sleep(0)
        items = await self._with_replays(items, refused, principal)
        try:
            marked = iter(await self._mark_suppressed([item for item in items if isinstance(item, NewMessage)]))
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable(_NOT_STORED) from error
        return MessageBatch(self, [next(marked) if isinstance(item, NewMessage) else item for item in items], source)

    async def _with_replays(
        self,
        items: Sequence[NewMessage | Accepted],
        refused: Mapping[int, tuple[SendCommand, ApiError]],
        principal: Principal,
    ) -> list[NewMessage | Accepted]:
        """``items`` with the first answers to the refused commands, by position, that have one."""
        replays = await self._find_replays(list(refused.values()), principal)
        replaced = dict(zip(refused, replays, strict=True))
        return [replaced.get(position, item) for position, item in enumerate(items)]

    async def insert_prepared(self, connection: Connection, batch: Sequence[NewMessage]) -> list[InsertResult]:
        """Store prepared messages in the connection's transaction."""
        assert failpoints.hit("accept.before_commit")
        return await ingest.insert_batch(connection, batch)

    def add_in_doubt(self, batch: Sequence[NewMessage]) -> None:
        """The callers of these messages get 503: should they appear, they are revoked."""
        for message in batch:
            if message.idempotency_key is None:  # with a key, the same request again finds out
                self._in_doubt.add(message.id, message.project_id)

    def created(self, message: NewMessage, source: str) -> None:
        """The message is committed: enqueue its deliveries, and count it."""
        assert failpoints.hit("accept.before_publish")
        self._enqueue(message)
        assert failpoints.hit("accept.published")
        self._project_quota.count(message)
        metrics.series(metrics.MESSAGES_ACCEPTED, message.channel.value, source).inc()

    async def _prepare(self, command: SendCommand, principal: Principal, now: datetime) -> NewMessage:
        """The message that a command becomes in its project.

        Raises:
            ValidationFailed: the command does not fit the project or its template, or its times have passed.
            ChannelDisabled: the project's configuration has disabled the channel.
            QuotaExceeded: the project has used one of its quotas.
            ApiError: the command's fault.
            Unavailable: PostgreSQL does not answer.
        """
        if command.fault is not None:
            raise command.fault.with_traceback(None)  # many commands may share it
        self._require_enabled(command.channel, principal.project_id)
        if command.template is not None:
            command = await self._templates.apply(command, command.template, principal.project_id)
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
            unsubscribe_link=partial(self._unsubscribe_link, principal),
            with_addresses=self._config.has_suppressions(principal.project_id),
        )
        self._project_quota.check(message)
        if message.send_at or self._quota.try_reserve(
            principal.project_id, message.channel, message.delivery_class, len(message.deliveries)
        ):
            return message
        return message._replace(backlogged=True, due_at=now)

    def _unsubscribe_link(self, principal: Principal, delivery_id: UUID, address: str) -> str:
        if not self._unsubscribe_links.available:
            raise ValidationFailed(
                "unsubscribe: needs a public address of this installation (SLUICE_PUBLIC_URL)", field="unsubscribe"
            )
        return self._unsubscribe_links.url(Subscription(principal.project_id, delivery_id, address, principal.is_test))

    async def _store(self, message: NewMessage) -> _Stored:
        batcher = self._batcher if _size(message) < _LARGE else self._large
        try:
            return await fail_after(batcher.submit(message), _time_limit(message))
        except QueueFullError:
            raise Unavailable("Too many requests are waiting for the database. Retry later.") from None
        except UNAVAILABLE_ERRORS as error:
            self.add_in_doubt([message])
            raise Unavailable(_NOT_STORED) from error

    async def _insert(self, batch: Sequence[NewMessage]) -> list[_Stored]:
        batch = await self._mark_suppressed(batch)
        async with self._pool.acquire(timeout=max(map(_time_limit, batch))) as connection:
            results = await self.insert_prepared(connection, batch)
            assert failpoints.hit("accept.committed")
        stored = [_Stored(*pair) for pair in zip(batch, results, strict=True)]
        self.publish_suppressed(stored)
        return stored

    async def _mark_suppressed(self, batch: Sequence[NewMessage]) -> Sequence[NewMessage]:
        async with asyncio.timeout(max(map(_time_limit, batch), default=_DB_TIMEOUT)):
            return await mark_suppressed(self._pool, batch, self._config.has_suppressions)

    def publish_suppressed(self, batch: Sequence[_Stored]) -> None:
        """Publish the events of suppressed deliveries; the recovery loop publishes those that Kafka does not store."""
        created = [(one.message, one.result.outbox_id) for one in batch if isinstance(one.result, Created)]
        if not created or created[0][1] is None:
            return
        events = [
            {
                "delivery_id": delivery.id,
                "sequence": SUPPRESSED_SEQUENCE,
                "message_id": message.id,
                "project_id": message.project_id,
                "channel": message.channel,
                "recipient": delivery.recipient,
                "type": EventType.FAILED,
                "state": State.FAILED,
                "reason": Reason.SUPPRESSED,
                "detail": delivery.suppressed,
                "occurred_at": message.created_at,
            }
            for message, _ in created
            for delivery in message.deliveries
            if delivery.suppressed is not None
        ]
        self._outbox.publish_events(created[0][1], events)

    async def _find_replays(
        self, refused: Sequence[tuple[SendCommand, ApiError]], principal: Principal
    ) -> list[Accepted]:
        """The answers to commands that cannot be prepared: the first answer where the idempotency key has one.

        What was right at the first request may be wrong by now: a quota is used up, a template or a provider is gone.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        keys = [command.idempotency_key for command, _ in refused if command.idempotency_key is not None]
        if not keys:
            return [error for _, error in refused]
        try:
            async with asyncio.timeout(_DB_TIMEOUT), rows_of(self._pool, [principal.project_id]) as db:
                owners = await ingest.find_owners(db, principal.scope, keys, now=utc_now())
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable(_NOT_STORED) from error
        return [
            _first_answer(command, principal.project_id, *owners[command.idempotency_key])
            if command.idempotency_key in owners
            else error
            for command, error in refused
        ]

    def _require_enabled(self, channel: Channel, project_id: UUID) -> None:
        found = self._config.channel_config(project_id, channel)
        if found is not None and not found.enabled:
            raise ChannelDisabled(f"The {found.channel_group}-config of the project is disabled: nothing is sent.")

    def _sender(self, command: SendCommand, project_id: UUID) -> str | None:
        if command.channel is not Channel.EMAIL:
            return command.sender
        project = self._config.projects.get(project_id)
        sender = command.sender
        if sender is None and project is not None:
            sender = project.default_sender
        if sender is None:
            raise ValidationFailed("from: is required, because the project has no default sender", field="from")
        if project is not None and project.verified_senders_only:
            self._require_verified(parse_address(sender).domain, project_id)
        return sender

    def _require_verified(self, domain: str, project_id: UUID) -> None:
        if not self._domains.is_verified(self._config.domain_statuses(project_id, domain)):
            raise ValidationFailed(
                f"from: the domain {domain} is not verified, and this project sends from verified domains only",
                field="from",
            )

    def _enqueue(self, message: NewMessage) -> None:
        """Publish the delivery tasks. The recovery loop enqueues what Kafka does not store, and the backlog."""
        if message.send_at is not None or message.backlogged:
            return
        for delivery in message.deliveries:
            if delivery.suppressed is not None:
                continue
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
                awaited=message.awaited or None,
                segments=message.segments,
            )
            self._publisher.publish(Topic.ACCEPTED, None, task, tracing.headers_for(message.traceparent))


class MessageBatch:
    """Several messages that are stored in one transaction, with the results of those that are not.

    The caller owns the transaction: it calls :meth:`insert` inside and :meth:`publish` after the commit.
    """

    def __init__(self, ingest: MessageIngest, items: Sequence[NewMessage | Accepted], source: str) -> None:
        self._ingest = ingest
        self._items = items
        self._source = source
        self._stored: list[_Stored] = []

    @property
    def messages(self) -> list[NewMessage]:
        """Those that are to be stored."""
        return [item for item in self._items if isinstance(item, NewMessage)]

    @property
    def time_limit(self) -> float:
        """Seconds that their caller may wait for PostgreSQL."""
        return _DB_TIMEOUT + sum(_size(message) for message in self.messages) / _DB_RATE

    async def insert(self, connection: Connection) -> list[Accepted]:
        """Store the messages in the connection's transaction; what becomes of each command with its commit."""
        messages = self.messages
        results = await self._ingest.insert_prepared(connection, messages) if messages else []
        self._stored = [_Stored(*pair) for pair in zip(messages, results, strict=True)]
        stored = iter(self._stored)
        return [_result(*next(stored)) if isinstance(item, NewMessage) else item for item in self._items]

    def publish(self) -> None:
        """Enqueue the deliveries of what was committed."""
        self._ingest.publish_suppressed(self._stored)
        for message, result in self._stored:
            if isinstance(result, Created):
                self._ingest.created(message, self._source)

    def doubt(self) -> None:
        """The commit is in doubt, and the caller is refused."""
        self._ingest.add_in_doubt(self.messages)


def _result(message: NewMessage, result: InsertResult) -> Accepted:
    match result:
        case Conflict():
            return _conflict()
        case Replayed(first):
            return AcceptedMessage(first, message.project_id, message.channel, created_at_of(first), replayed=True)
        case Created():
            return AcceptedMessage(message.id, message.project_id, message.channel, message.created_at, replayed=False)


def _first_answer(command: SendCommand, project_id: UUID, first: UUID, fingerprint: bytes) -> Accepted:
    if fingerprint != command.fingerprint:
        return _conflict()
    return AcceptedMessage(first, project_id, command.channel, created_at_of(first), replayed=True)


def _traced(message: NewMessage, span: tracing.Span) -> NewMessage:
    if span.traceparent is None:
        return message
    span.set(message=encode_id("msg", message.id), channel=message.channel.value)
    return message._replace(traceparent=span.traceparent)


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
