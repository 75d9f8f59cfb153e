"""Drives in, assignments out; what nobody can take now is postponed or ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import orjson
import structlog
from pydantic import ValidationError

from sluice.bus.consumer import Record
from sluice.bus.dead_letters import dead_letter
from sluice.bus.messages import Assignment, DeliveryTask
from sluice.bus.publisher import Publisher, PublishResult, wait_for_acks
from sluice.bus.topics import Topic, delivery_topic
from sluice.delivery.retry_policy import Resolution, RetryPolicy, defer, exhaust_round, expire
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.model.ids import attempt_reference
from sluice.model.state import EventType
from sluice.providers.adapters.sandbox import SANDBOX, SANDBOX_PROVIDER_ID
from sluice.routing.probe_budget import ProbeBudget
from sluice.routing.selection import Deferred, Exhausted, Health, Selected, select_provider
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice.store.config_cache import ConfigCache

log = structlog.get_logger()

_SANDBOX_DECISION = orjson.dumps(
    {"provider": str(SANDBOX_PROVIDER_ID), "reason": "the key is a test key", "excluded": {}}
).decode()


class RoutingHandler:
    """Decides about drives and hands them on."""

    def __init__(
        self,
        *,
        config: ConfigCache,
        health: Health,
        publisher: Publisher,
        settlements: SettlementWriter,
        policy: RetryPolicy,
    ) -> None:
        self._configuration = config
        self._health = health
        self._publisher = publisher
        self._settler = settlements
        self._timing = policy
        self._probes = ProbeBudget()
        self._tasks = TaskSet()

    async def handle_batch(self, records: list[Record]) -> None:
        """Take a batch over; each record is finished once what follows from it is on the bus or in the record."""
        now = utc_now()
        for record in records:
            try:
                task = DeliveryTask.model_validate_json(record.value or b"")
            except ValidationError:
                self._tasks.spawn(
                    dead_letter(self._publisher, record, "not a drive of a schema that this version reads")
                )
                continue
            try:
                self._route(record, task, now)
            except Exception as error:  # a bug must not stop the others; the delivery falls due and comes again
                log.exception("routing_failed", delivery=str(task.delivery_id))
                self._tasks.spawn(dead_letter(self._publisher, record, f"no decision: {type(error).__name__}"))

    async def join(self) -> None:
        """Return when everything taken over is finished."""
        await self._tasks.join()

    def _route(self, record: Record, task: DeliveryTask, now: datetime) -> None:
        if task.expires_at <= now:
            self._tasks.spawn(self._settle(record, task, expire(task, at=now)))
            return
        assignment = self._select(task, record.value or b"", now)
        if isinstance(assignment, Resolution):
            self._tasks.spawn(self._settle(record, task, assignment))
            return
        metrics.series(metrics.ROUTING_DECISIONS, task.channel, "route").inc()
        assert failpoints.hit("route.before_publish")
        sent = self._publisher.publish(delivery_topic(task.channel), None, assignment)
        sent.on_done(lambda publication: self._published(publication, record, task))

    def _published(self, publication: PublishResult, record: Record, task: DeliveryTask) -> None:
        # An assignment that Kafka did not take is not lost: the delivery falls due and is driven again.
        if publication.error:
            log.warning("assignment_not_published", delivery=str(task.delivery_id), error=publication.error)
        assert failpoints.hit("route.published")
        record.ack()

    def _select(self, task: DeliveryTask, raw_task: bytes, now: datetime) -> bytes | Resolution:
        if task.sandbox:
            return _assignment(task, raw_task, SANDBOX_PROVIDER_ID, SANDBOX.name, _SANDBOX_DECISION)
        candidates = self._configuration.candidates(task.project_id, task.channel)
        choice = select_provider(task, candidates, self._health, now, self._probes.allow)
        match choice:
            case Selected(provider, why, excluded, repeats, probes):
                if probes:
                    self._probes.consume(self._health[provider.id], now)
                decision = _encode_decision(provider.id, why, excluded)
                reference = task.retry_handle.reference if repeats and task.retry_handle else None
                return _assignment(task, raw_task, provider.id, provider.package, decision, reference)
            case Deferred(until, _):
                metrics.series(metrics.ROUTING_DECISIONS, task.channel, "wait").inc()
                return defer(task, until=until, reason=f"no provider may be called before {until:%H:%M:%S}", at=now)
            case Exhausted():
                metrics.series(metrics.ROUTING_DECISIONS, task.channel, "exhausted").inc()
                return exhaust_round(task, reason=_exhausted(task, bool(candidates)), at=now, policy=self._timing)

    async def _settle(self, record: Record, task: DeliveryTask, resolution: Resolution) -> None:
        try:
            assert failpoints.hit("route.before_settle")
            applied = await self._settler.settle(Settlement(task, resolution))
            assert failpoints.hit("route.settled")
            if applied and resolution.transition.type is EventType.FAILED:
                await self._dead_letter(task, resolution)
        except Exception:
            log.exception("resolution_not_written", delivery=str(task.delivery_id))  # it falls due and comes again
        finally:
            record.ack()

    async def _dead_letter(self, task: DeliveryTask, resolution: Resolution) -> None:
        letter = {
            "kind": "failed_delivery",
            "delivery_id": str(task.delivery_id),
            "message_id": str(task.message_id),
            "project_id": str(task.project_id),
            "channel": task.channel.value,
            "reason": resolution.transition.detail,
            "at": resolution.transition.occurred_at.isoformat(),
        }
        published = self._publisher.publish(Topic.DEAD_LETTERS, task.message_id.bytes, orjson.dumps(letter))
        if not await wait_for_acks([published]):
            log.warning("dead_letter_not_published", delivery=str(task.delivery_id))
        assert failpoints.hit("route.dead_letter")


def _assignment(
    task: DeliveryTask, raw_task: bytes, provider_id: UUID, package: str, decision: str, reference: str | None = None
) -> bytes:
    return Assignment.encode_with_raw_task(
        raw_task,
        provider_id=provider_id,
        package=package,
        reference=reference or attempt_reference(task.delivery_id, task.attempt),
        routing_decision=decision,
    )


def _encode_decision(provider_id: UUID, reason: str, excluded: Mapping[UUID, str]) -> str:
    reasons = {str(id_): reason for id_, reason in excluded.items()}
    return orjson.dumps({"provider": str(provider_id), "reason": reason, "excluded": reasons}).decode()


def _exhausted(task: DeliveryTask, any_provider: bool) -> str:
    if not any_provider:
        return f"the project has no enabled provider for {task.channel.value}"
    return f"every provider was tried in round {task.retry_round}; the last said: {task.last_error or 'nothing'}"
