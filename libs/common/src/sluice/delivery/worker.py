"""The workers' handler: claim, call, settle, acknowledge. It contains nothing about a channel or a provider."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from types import MappingProxyType
from uuid import UUID

import asyncpg
import structlog
from redis.asyncio import Redis

from sluice.bus.dead_letters import dead_letter
from sluice.bus.messages import RetryHandle
from sluice.bus.publisher import Publisher
from sluice.bus.window import Record
from sluice.delivery.attempt import AttemptCaller, UnusableProviderError, why_unusable
from sluice.delivery.bulkhead import Bulkhead, ObservedCall
from sluice.delivery.bulkhead_monitor import BulkheadMonitor, Bulkheads
from sluice.delivery.call_permits import CallPermits, PermitSource
from sluice.delivery.claims import ClaimWriter
from sluice.delivery.job import Job, parse_job, pass_on, reroute
from sluice.delivery.leases import renew_leases
from sluice.delivery.retry_policy import expire, resolve, throttle_duration
from sluice.delivery.settings import WorkerPolicy
from sluice.delivery.settlement import Settlement, SettlementWriter, record_late_acceptance
from sluice.model import ids
from sluice.model.cost import price_of
from sluice.model.outcome import (
    AuthFailed,
    Declined,
    Divided,
    Outcome,
    Part,
    ProviderFault,
    Scope,
    Throttled,
    Unknown,
    outcome_name,
)
from sluice.model.state import EventType
from sluice.providers.account import Account
from sluice.providers.sms_link import Links
from sluice.routing.selection import Health
from sluice.runtime import metrics, tracing
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet, cancel_and_wait, supervised
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool
from sluice.store.receipts import LateAcceptance
from sluice.transports.provider_call import Transports

log = structlog.get_logger()

_REROUTE_DELAY = 0.3  # seconds, for an unusable provider: the router's configuration may be behind
_MAX_DOUBLINGS = 7  # of that delay
_DEFAULT_THROTTLE = timedelta(seconds=1)  # if the provider names no time


class Worker:
    """Makes the attempts that the assignments of its topics request."""

    def __init__(
        self,
        *,
        db: Pool,
        config: ConfigCache,
        cipher: CredentialCipher,
        transports: Transports,
        publisher: Publisher,
        settlements: SettlementWriter,
        policy: WorkerPolicy,
        health: Health = MappingProxyType({}),
        links: Links | None = None,
        elsewhere: Callable[[str], bool] = lambda _: False,
        redis: Redis | None = None,
    ) -> None:
        """``elsewhere``: whether other workers make the calls of a package, by name. ``redis``: shares call rates."""
        self._db = db
        self._config = config
        self._publisher = publisher
        self._settlements = settlements
        self._policy = policy
        self._elsewhere = elsewhere
        self._in_flight_jobs: set[Job] = set()
        self._tasks = TaskSet()
        self._claims = ClaimWriter(db, lease=policy.attempt_lease)
        self._caller = AttemptCaller(
            db=db, config=config, cipher=cipher, transports=transports, policy=policy, links=links or {}
        )
        self._bulkheads = Bulkheads(config, policy.provider_concurrency)
        self._permits = CallPermits(PermitSource(redis), self._dispatch_ready)
        self._monitor = BulkheadMonitor(
            self._bulkheads,
            config=config,
            health=health,
            publisher=publisher,
            queue_timeout=policy.provider_queue_timeout,
            reroute=self._reroute,
            dispatch=self._dispatch_ready,
        )

    @asynccontextmanager
    async def running(self, drain_left: Callable[[], float] = lambda: math.inf) -> AsyncIterator[Worker]:
        """Work until the block ends; the jobs that were handed over are finished first.

        ``drain_left`` gives the seconds that they may still take then. A call that is cut off has an unknown outcome.
        """
        async with self._claims.running():
            loops = [
                supervised(
                    renew_leases(self._db, self._in_flight_jobs, self._policy.attempt_lease), name="lease-renewal"
                ),
                supervised(self._monitor.run(), name="bulkhead-monitor"),
                supervised(self._permits.run(), name="call-permits"),
            ]
            try:
                yield self
            finally:
                # The leases are renewed meanwhile: a slow call whose record is acknowledged ends here.
                await self._tasks.join(within=drain_left())
                await cancel_and_wait(*loops)

    @property
    def in_flight(self) -> int:
        """Attempts that are claimed and not settled."""
        return len(self._in_flight_jobs)

    async def handle_batch(self, records: list[Record]) -> None:
        """Start the work of a batch. A record is acknowledged once nothing of it can be lost."""
        now, expiry = time.monotonic(), utc_now()
        for record in records:
            job = parse_job(record)
            if job is None:
                self._dead_letter(record, "not an assignment of a schema version that this worker reads")
                continue
            row = self._config.providers.get(job.provider_id)
            unusable = why_unusable(job.assignment, row)
            if unusable is not None:
                # With each hand-back longer: the only provider of a project may stay unusable.
                self._reroute(job, unusable, delay=_REROUTE_DELAY * 2 ** min(job.task.hops, _MAX_DOUBLINGS))
            elif job.task.expires_at <= expiry:
                self._tasks.spawn(self._settle_and_ack(job, Settlement(job.task, expire(job.task, at=expiry))))
            elif row is not None and self._elsewhere(row.package):
                self._tasks.spawn(pass_on(self._publisher, job, delay=_REROUTE_DELAY))
            else:
                self._enqueue(job, now)

    def _enqueue(self, job: Job, now: float) -> None:
        bulkhead = self._bulkheads.get(job.provider_id)
        if bulkhead.unresponsive:  # waiting would not help
            self._monitor.on_queue_timeout(bulkhead, job, now)
        else:
            bulkhead.enqueue(job, now, urgent=job.urgent, permits=self._bulkheads.permits_of(job))
            self._dispatch_ready(job.provider_id, bulkhead)

    def _dispatch_ready(self, provider_id: UUID, bulkhead: Bulkhead[Job]) -> None:
        while (job := bulkhead.acquire(time.monotonic())) is not None:
            if job.record.owned:
                self._tasks.spawn(self._deliver(bulkhead, job))
            else:
                bulkhead.release(job, time.monotonic())
                job.record.ack()
        self._permits.want(provider_id, bulkhead)

    async def _deliver(self, bulkhead: Bulkhead[Job], job: Job) -> None:
        settlement: Settlement | None = None
        try:
            with _span(job) as span:
                settlement = await self._attempt(bulkhead, job)
                span.set(outcome=settlement.resolution.transition.outcome if settlement else "not_claimed")
        except UnusableProviderError as error:
            self._reroute(job, str(error))
            return
        except Exception as error:
            # Nothing is lost: the lease of a claimed attempt expires, an unclaimed delivery falls due.
            self._in_flight_jobs.discard(job)
            log.exception("delivery_failed_unexpectedly", **job.task.ids(), provider=str(job.provider_id))
            if isinstance(error, asyncpg.DataError | ValueError):
                self._dead_letter(job.record, f"{type(error).__name__}: {error}"[:300])
                return
        finally:
            bulkhead.release(job, time.monotonic())
            self._dispatch_ready(job.provider_id, bulkhead)
        await self._settle_and_ack(job, settlement)

    async def _attempt(self, bulkhead: Bulkhead[Job], job: Job) -> Settlement | None:
        """Claim the attempt and make its call; None if the claim is refused."""
        account = self._caller.account(job.assignment)
        job.idempotent = account.package.idempotent
        job.price, job.by_segment = self._price(job), account.package.segments
        claimed = await self._claims.claim(job)
        if claimed is None:
            return None
        job.reference = claimed.reference
        self._in_flight_jobs.add(job)
        await self._permits.renew(bulkhead, job)
        call = ObservedCall(bulkhead, job, time.monotonic())

        def on_progress(seconds: float) -> None:
            now = time.monotonic()
            job.renew_until = now + seconds
            call.begin_step(now)

        result = await self._caller.call(job, claimed, account, on_progress)
        job.renew_until = math.inf  # the outcome is known: the lease is kept until it is written
        parts = result.parts if isinstance(result, Divided) else (Part((), result),)
        duration = call.end(time.monotonic(), answered=all(_is_answered(part.outcome) for part in parts))
        self._observe(bulkhead, job, account, [part.outcome for part in parts], duration)
        first, *others = [self._resolve(job, account, part, duration, whole=not at) for at, part in enumerate(parts)]
        return first._replace(divided=tuple(others))

    def _price(self, job: Job) -> int | None:
        row = self._config.providers.get(job.provider_id)
        return 0 if row is None else price_of(row.settings)  # without a row: the sandbox, which costs nothing

    def _observe(
        self, bulkhead: Bulkhead[Job], job: Job, account: Account, outcomes: Sequence[Outcome], duration: float
    ) -> None:
        """Throttle the bulkhead, log and count what the call showed about the account."""
        for outcome in outcomes:
            if isinstance(outcome, Throttled) and outcome.scope is Scope.ACCOUNT:
                bulkhead.throttle(time.monotonic() + _pause(outcome).total_seconds())
            elif isinstance(outcome, AuthFailed):
                log.error(
                    "provider_auth_failed", provider=str(job.provider_id), **job.task.ids(), reason=outcome.detail
                )
        metrics.series(metrics.DELIVERY_ATTEMPTS, account.package.name, outcome_name(outcomes[0])).inc()
        metrics.series(metrics.PROVIDER_REQUEST_DURATION, account.package.name).observe(duration)

    def _resolve(self, job: Job, account: Account, part: Part, duration: float, *, whole: bool) -> Settlement:
        """The settlement of one part of the call; ``whole``: of the delivery itself, otherwise of a new delivery."""
        task, outcome = job.task, part.outcome
        if not whole:
            task = task.model_copy(update={"delivery_id": ids.uuid7_like(task.message_id), "retry_handle": None})
        handle = RetryHandle(provider_id=job.provider_id, reference=job.reference)
        resolution = resolve(
            task, handle, outcome, idempotent=account.package.idempotent, at=utc_now(), policy=self._policy
        )
        transition = resolution.transition._replace(
            scope=outcome.scope if isinstance(outcome, Declined | Throttled | ProviderFault) else None,
            retry_after_s=_pause(outcome).total_seconds() if isinstance(outcome, Throttled) else None,
            duration_ms=int(duration * 1000),
        )
        return Settlement(task, resolution._replace(transition=transition), part.recipients)

    async def _settle_and_ack(self, job: Job, settlement: Settlement | None) -> None:
        try:
            if settlement is not None and not await self._settlements.settle(settlement):
                log.warning("late_outcome_ignored", **settlement.task.ids())
                late = _late_acceptance(settlement)
                if late is not None:
                    await record_late_acceptance(self._db, late)
        finally:
            self._in_flight_jobs.discard(job)
            job.record.ack()

    def _reroute(self, job: Job, reason: str, *, delay: float = 0.0) -> None:
        self._tasks.spawn(reroute(self._publisher, job, reason, delay=delay))

    def _dead_letter(self, record: Record, reason: str) -> None:
        self._tasks.spawn(dead_letter(self._publisher, record, reason))


def _pause(outcome: Throttled) -> timedelta:
    return throttle_duration(outcome) or _DEFAULT_THROTTLE


def _is_answered(outcome: Outcome) -> bool:
    called = not isinstance(outcome, ProviderFault) or outcome.scope is not Scope.MESSAGE
    return called and not isinstance(outcome, Unknown)


def _late_acceptance(settlement: Settlement) -> LateAcceptance | None:
    """The acceptance in a settlement that was refused; None for a divided one, because it would count for everyone."""
    transition = settlement.resolution.transition
    if transition.type is not EventType.SENT or transition.provider_id is None or settlement.divided:
        return None
    return LateAcceptance(
        delivery_id=transition.delivery_id,
        attempt=transition.attempt,
        provider_id=transition.provider_id,
        occurred_at=transition.occurred_at,
        detail="the answer came after the lease had expired",
        provider_message_id=transition.provider_message_id or "",
        receipt_ids=transition.receipt_ids,
    )


def _span(job: Job) -> tracing.Span:
    span = tracing.child("attempt", job.task.traceparent, calls=True)
    if span.traceparent is not None:
        span.set(
            **job.task.ids(),
            channel=job.task.channel.value,
            retry_round=job.task.retry_round,
            provider=str(job.provider_id),
            package=job.assignment.package,
        )
    return span
