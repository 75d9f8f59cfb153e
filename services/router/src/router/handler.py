"""The router's handler: a delivery task becomes an assignment, a deferral, or the end of a retry round."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import orjson
import structlog
from pydantic import ValidationError

from sluice.bus.dead_letters import dead_letter
from sluice.bus.messages import Assignment, DeliveryTask
from sluice.bus.publisher import Publisher, PublishResult, wait_for_acks
from sluice.bus.topics import Topic, delivery_topic
from sluice.bus.window import Record
from sluice.delivery.retry_policy import (
    Resolution,
    RetryPolicy,
    defer,
    end_unconfirmed,
    exhaust_round,
    expire,
    next_round_before,
)
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.model.ids import attempt_reference
from sluice.model.state import EventType
from sluice.providers.adapters.sandbox import SANDBOX, SANDBOX_PROVIDER_ID
from sluice.routing.decision import SANDBOX_DECISION, decide, encode_decision
from sluice.routing.probe_budget import ProbeBudget
from sluice.routing.selection import MAX_SAME_KEY_RETRIES, Deferred, Exhausted, Health, Selected
from sluice.runtime import failpoints, metrics, tracing
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice.store.config_cache import ConfigCache

log = structlog.get_logger()

_SANDBOX_DECISION = orjson.dumps(SANDBOX_DECISION).decode()


class RoutingHandler:
    """Selects a provider for each delivery task and publishes the assignment."""

    def __init__(
        self,
        *,
        config: ConfigCache,
        health: Health,
        publisher: Publisher,
        settlements: SettlementWriter,
        policy: RetryPolicy,
    ) -> None:
        self._config = config
        self._health = health
        self._publisher = publisher
        self._settlements = settlements
        self._policy = policy
        self._probes = ProbeBudget()
        self._tasks = TaskSet()

    async def handle_batch(self, records: list[Record]) -> None:
        """Route a batch. A record is acknowledged once its result is in Kafka or in PostgreSQL."""
        now = utc_now()
        for record in records:
            try:
                task = DeliveryTask.model_validate_json(record.value or b"").below(record.headers)
            except ValidationError:
                self._dead_letter(record, "not a delivery task of a schema version that this router reads")
                continue
            try:
                self._route(record, task, now)
            except Exception as error:  # a bug must not stop the other records; the delivery falls due again
                log.exception("routing_failed", **task.ids())
                self._dead_letter(record, f"routing failed: {type(error).__name__}")

    async def join(self) -> None:
        """Return when all handled records are acknowledged."""
        await self._tasks.join()

    def _route(self, record: Record, task: DeliveryTask, now: datetime) -> None:
        self._probes.end(task.delivery_id)
        with tracing.child("route", task.traceparent) as span:
            result = expire(task, at=now) if task.expires_at <= now else self._select(task, record.value or b"", now)
            if span.traceparent is not None:
                outcome = result.transition.type.value if isinstance(result, Resolution) else "assigned"
                span.set(**task.ids(), channel=task.channel.value, result=outcome)
        if isinstance(result, Resolution):
            self._tasks.spawn(self._settle_and_ack(record, task, result))
            return
        metrics.series(metrics.ROUTING_DECISIONS, task.channel, "selected").inc()
        assert failpoints.hit("route.before_publish")
        headers = tracing.headers_for(span.traceparent or task.traceparent)
        published = self._publisher.publish(delivery_topic(task.channel), None, result, headers)
        published.on_done(lambda done: self._ack_published(done, record, task))

    def _ack_published(self, published: PublishResult, record: Record, task: DeliveryTask) -> None:
        # An assignment that Kafka has not stored is not lost: the delivery falls due and is requeued.
        if published.error:
            log.warning("assignment_not_published", **task.ids(), error=published.error)
        assert failpoints.hit("route.published")
        record.ack()

    def _select(self, task: DeliveryTask, raw_task: bytes, now: datetime) -> bytes | Resolution:
        """The encoded assignment, or the resolution if no provider can be called now."""
        if task.sandbox:
            if task.unknown_attempts >= MAX_SAME_KEY_RETRIES:
                return end_unconfirmed(task, reason="no attempt was answered by the sandbox", at=now)
            return _encode_assignment(task, raw_task, SANDBOX_PROVIDER_ID, SANDBOX.name, _SANDBOX_DECISION)
        selection, policy = decide(task, self._config, self._health, now, self._probes.allow)
        match selection:
            case Selected(provider=provider, same_key=same_key, probe=probe):
                if probe is not None:
                    self._probes.consume(probe, task.delivery_id, now)
                decision = encode_decision(selection, policy, task.destination)
                reference = task.retry_handle.reference if same_key and task.retry_handle else None
                return _encode_assignment(task, raw_task, provider.id, provider.package, decision, reference)
            case Deferred(until=until):
                suspension = f"all providers suspended until {until:%H:%M:%S}"
                reason = describe_errors(task, self._config) if task.attempted_providers else suspension
                sooner = next_round_before(until, task, reason=reason, at=now, policy=self._policy)
                if sooner is not None:
                    metrics.series(metrics.ROUTING_DECISIONS, task.channel, "exhausted").inc()
                    return sooner
                metrics.series(metrics.ROUTING_DECISIONS, task.channel, "deferred").inc()
                return defer(task, until=until, reason=suspension, at=now)
            case Exhausted():
                metrics.series(metrics.ROUTING_DECISIONS, task.channel, "exhausted").inc()
                reason = describe_errors(task, self._config)
                return exhaust_round(task, reason=reason, at=now, policy=self._policy)

    async def _settle_and_ack(self, record: Record, task: DeliveryTask, resolution: Resolution) -> None:
        try:
            assert failpoints.hit("route.before_settle")
            applied = await self._settlements.settle(Settlement(task, resolution))
            assert failpoints.hit("route.settled")
            if applied and resolution.transition.type is EventType.FAILED:
                await self._publish_failed_delivery(task, resolution)
        except Exception:
            log.exception("resolution_not_written", **task.ids())  # the delivery falls due again
        finally:
            record.ack()

    async def _publish_failed_delivery(self, task: DeliveryTask, resolution: Resolution) -> None:
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
            log.warning("dead_letter_not_published", **task.ids())
        assert failpoints.hit("route.dead_letter")

    def _dead_letter(self, record: Record, reason: str) -> None:
        self._tasks.spawn(dead_letter(self._publisher, record, reason))


def _encode_assignment(
    task: DeliveryTask, raw_task: bytes, provider_id: UUID, package: str, decision: str, reference: str | None = None
) -> bytes:
    return Assignment.encode_with_raw_task(
        raw_task,
        provider_id=provider_id,
        package=package,
        reference=reference or attempt_reference(task.delivery_id, task.attempt),
        routing_decision=decision,
    )


def describe_errors(task: DeliveryTask, config: ConfigCache) -> str:
    """Why the round is over: every attempted provider with the reason that it gave."""
    if not config.candidates(task.project_id, task.channel):
        return f"the project has no enabled provider for {task.channel.value}"
    reasons = []
    for provider_id in task.attempted_providers:
        row = config.providers.get(provider_id)
        reasons.append(f"{row.name if row else provider_id}: {task.errors.get(provider_id) or 'failed'}")
    return f"all providers failed in retry round {task.retry_round}: {'; '.join(reasons)}"
