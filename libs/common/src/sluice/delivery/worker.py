"""The act that the three workers share: claim, call, settle, announce, commit.

It knows no channel and no vendor. What differs between the services is which topics they read.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from uuid import UUID

import asyncpg
import structlog
from pydantic import Field, ValidationError

from sluice.bus.consumer import Record
from sluice.bus.dead_letters import dead_letter
from sluice.bus.messages import Assignment, ProviderUnresponsive, RetryHandle
from sluice.bus.publisher import Publisher, wait_for_acks
from sluice.bus.topics import Topic
from sluice.delivery.retry_policy import RetryPolicy, expire, resolve, throttle_duration
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.delivery.tokens import TokenCache
from sluice.model import ids
from sluice.model.message import DeliveryClass, Email, content_adapter
from sluice.model.outcome import AuthFailed, Declined, Outcome, ProviderFault, Throttled, Unknown, outcome_name
from sluice.model.state import EventType
from sluice.providers import registry
from sluice.providers.account import Account, UnusableAccountError, open_account
from sluice.providers.adapters.sandbox import SANDBOX, SANDBOX_PROVIDER_ID, SandboxCredentials
from sluice.providers.contract import AnyPackage, OutboundMessage
from sluice.runtime import failpoints, metrics
from sluice.runtime.batching import Batcher
from sluice.runtime.clock import utc_now
from sluice.runtime.settings import EncryptionSettings
from sluice.runtime.tasks import TaskSet, cancel_and_wait, supervised
from sluice.store import deliveries, messages, receipts
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Db
from sluice.store.deliveries import Claim, Claimed, Transition
from sluice.store.providers import ProviderRow
from sluice.store.receipts import ReceiptEntry
from sluice.transports.provider_call import Transports

log = structlog.get_logger()

_RETRY_DELAY = 0.3  # seconds before a claim is tried again while Postgres is away
_LEASE_MARGIN = 1.0  # seconds of the lease that must be left beyond the deadline when a call starts

# So many calls, of which none ends for so many times as long as they take on average, are not in the hands of a
# provider that works. Fewer say less: they get the whole patience.
_MIN_SAMPLE = 10
_LATENCY_MULTIPLE = 5.0
_MIN_QUEUE_TIMEOUT = 0.25  # seconds
_CHECK_INTERVAL = 0.1  # seconds
_SANDBOX_ACCOUNT = Account(SANDBOX_PROVIDER_ID, 0, SANDBOX, SandboxCredentials())


class WorkerSettings(RetryPolicy, EncryptionSettings):
    """Settings of a worker."""

    provider_concurrency: int = Field(256, ge=1, description="calls in flight at one provider")
    # What waits for one provider's slots must not keep other projects' assignments from being read at all.
    prefetch: int = Field(5000, ge=1, description="assignments read and not finished")
    provider_queue_timeout: float = Field(
        2.0, gt=0, description="how long a message waits for a slot before it is re-routed"
    )
    public_url: str | None = Field(None, description="public address of the gateway, for providers' receipts")


@dataclass(eq=False, slots=True)
class _Job:
    """One assignment on its way through the worker."""

    record: Record
    assignment: Assignment
    enqueued_at: float  # monotonic time
    claimed_at: float = 0.0  # monotonic time
    idempotent: bool = False  # the provider's package is
    reference: str = ""  # the claimed one


@dataclass(slots=True)
class Bulkhead:
    """The calls of one provider: a slow one holds only its own slots."""

    concurrency: int
    version: int = 0  # of the provider's row that says how many
    callback_url: str | None = None  # where the provider may tell what became of a message
    account: Account | None = None  # as opened
    available: int = 0
    urgent_queue: deque[_Job] = field(default_factory=deque)
    standard_queue: deque[_Job] = field(default_factory=deque)
    in_flight: set[_Job] = field(default_factory=set)  # claimed and without an answer
    throttled_until: float = 0.0  # monotonic time; no call before
    saturated_since: float = inf  # monotonic time since which no slot was free
    unresponsive: bool = False  # what keeps_silent said, until a slot comes free
    last_reported: float = -inf  # monotonic time
    latency_ewma: float = inf  # seconds that a call takes, the last ones counting most

    def __post_init__(self) -> None:
        self.available = self.concurrency

    def resize(self, concurrency: int, version: int) -> None:
        """Have so many slots from now on; calls beyond them end in their time."""
        self.available += concurrency - self.concurrency
        self.concurrency, self.version = concurrency, version
        if self.available > 0:
            self.saturated_since, self.unresponsive = inf, False

    def enqueue(self, job: _Job) -> None:
        """Wait for a slot, behind those of the same rank."""
        (
            self.urgent_queue if job.assignment.task.delivery_class is DeliveryClass.URGENT else self.standard_queue
        ).append(job)

    def record_latency(self, seconds: float) -> None:
        """A call was answered after so many seconds."""
        self.latency_ewma = seconds if self.latency_ewma == inf else 0.9 * self.latency_ewma + 0.1 * seconds

    def queue_timeout(self, limit: float) -> float:
        """Seconds after which a provider that keeps all slots taken can be called silent."""
        if self.concurrency < _MIN_SAMPLE:
            return limit
        return min(limit, max(_MIN_QUEUE_TIMEOUT, _LATENCY_MULTIPLE * self.latency_ewma))

    def is_unresponsive(self, now: float, limit: float) -> bool:
        """Whether every slot is with a call, and none of them has ended for longer than a patience of ``most`` allows.

        Slots that wait for a claim say something about the record, not about the provider.
        """
        patience = self.queue_timeout(limit)
        if now - self.saturated_since <= patience or len(self.in_flight) < self.concurrency:
            return False
        return all(now - job.claimed_at > patience for job in self.in_flight)

    def dequeue(self) -> _Job | None:
        """Whose turn it is, if anybody's."""
        waiting = self.urgent_queue or self.standard_queue
        return waiting.popleft() if waiting else None


class Worker:
    """Takes assignments from the bus and carries them through."""

    def __init__(
        self,
        *,
        db: Db,
        config: ConfigCache,
        cipher: CredentialCipher,
        transports: Transports,
        publisher: Publisher,
        settlements: SettlementWriter,
        settings: WorkerSettings,
    ) -> None:
        self._db = db
        self._config = config
        self._cipher = cipher
        self._calls = TokenCache(transports)
        self._publisher = publisher
        self._settlements = settlements
        self._settings = settings
        self._bulkheads: dict[UUID, Bulkhead] = {}
        self._in_flight_jobs: set[_Job] = set()
        self._tasks = TaskSet()
        self._claims: Batcher[_Job, Claimed | None] = Batcher(
            self._claim, name="claim", size=200, parallel=2, pace=0.010, split_on=(asyncpg.DataError, ValueError)
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        """Work until the block ends."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._claims.running())
            keepers = [
                supervised(self._renew_leases(), name="keep-leases"),
                supervised(self._monitor_bulkheads(), name="mind-lanes"),
            ]
            try:
                yield self
            finally:
                await cancel_and_wait(*keepers)
                await self._tasks.join()

    @property
    def in_flight(self) -> int:
        """Attempts that are claimed and not settled."""
        return len(self._in_flight_jobs)

    # -- from the bus to the lanes --------------------------------------------------------------------------------

    async def handle_batch(self, records: list[Record]) -> None:
        """Take a batch over; each record is finished when nothing of it can be lost any more."""
        arrived, now = time.monotonic(), utc_now()
        for record in records:
            assignment = _parse(record)
            if assignment is None:
                self._tasks.spawn(
                    dead_letter(self._publisher, record, "not an assignment of a schema that this version reads")
                )
                continue
            job = _Job(record, assignment, arrived)
            row = self._config.providers.get(assignment.provider_id)
            unusable = _why_unusable(assignment, row)
            if unusable is not None:
                self._tasks.spawn(self._reroute(job, unusable, after=_RETRY_DELAY))
            elif assignment.task.expires_at <= now:
                self._tasks.spawn(
                    self._settle_and_ack(job, Settlement(assignment.task, expire(assignment.task, at=now)))
                )
            else:
                bulkhead = self._bulkhead(assignment.provider_id, row)
                if bulkhead.unresponsive:
                    self._on_queue_timeout(bulkhead, job, arrived)  # nothing comes back from there: it would only wait
                else:
                    bulkhead.enqueue(job)
                    self._dispatch_ready(bulkhead)

    def _bulkhead(self, provider_id: UUID, row: ProviderRow | None) -> Bulkhead:
        version = 0 if row is None else row.version
        bulkhead = self._bulkheads.get(provider_id)
        if bulkhead is None:
            url = self._callback_url(provider_id)
            bulkhead = self._bulkheads[provider_id] = Bulkhead(self._concurrency_of(row), version, url)
        elif bulkhead.version != version:
            bulkhead.resize(self._concurrency_of(row), version)
        return bulkhead

    def _callback_url(self, provider_id: UUID) -> str | None:
        base = self._settings.public_url
        return f"{base.rstrip('/')}/v1/receipts/{ids.encode_id('prv', provider_id)}" if base else None

    def _concurrency_of(self, row: ProviderRow | None) -> int:
        if row is None:
            return self._settings.provider_concurrency
        asked = row.settings.get("concurrency") or registry.get_package(row.package).concurrency
        return asked if isinstance(asked, int) and asked > 0 else self._settings.provider_concurrency

    def _dispatch_ready(self, bulkhead: Bulkhead) -> None:
        while bulkhead.available > 0 and bulkhead.throttled_until <= time.monotonic() and (job := bulkhead.dequeue()):
            if not job.record.owned:
                job.record.ack()
                continue
            bulkhead.available -= 1
            if bulkhead.available <= 0:
                bulkhead.saturated_since = time.monotonic()
            self._tasks.spawn(self._deliver(bulkhead, job))

    # -- one delivery ---------------------------------------------------------------------------------------------

    async def _deliver(self, bulkhead: Bulkhead, job: _Job) -> None:
        settlement: Settlement | None = None
        try:
            ready = self._open_account(bulkhead, job.assignment)
            if isinstance(ready, str):
                await self._reroute(job, ready)
                return
            job.idempotent = ready.package.idempotent
            claimed = await self._claims.submit(job)
            if claimed is None:
                job.record.ack()
                return
            job.reference = claimed.reference
            self._in_flight_jobs.add(job)
            started = utc_now()
            bulkhead.in_flight.add(job)
            outcome = await self._attempt(job, claimed, bulkhead.callback_url, ready)
            settlement = self._resolve(bulkhead, job, ready.package, outcome, started)
        except Exception as error:
            # Nothing is lost: an attempt without an outcome lapses (its lease is renewed no more), an unclaimed
            # delivery falls due.
            self._in_flight_jobs.discard(job)
            log.exception("delivery_failed_unexpectedly", delivery=str(job.assignment.task.delivery_id))
            if isinstance(error, asyncpg.DataError | ValueError):
                self._tasks.spawn(dead_letter(self._publisher, job.record, f"{type(error).__name__}: {error}"[:300]))
                return
        finally:
            bulkhead.in_flight.discard(job)
            bulkhead.available += 1
            bulkhead.saturated_since = inf
            bulkhead.unresponsive = False
            self._dispatch_ready(bulkhead)
        await self._settle_and_ack(job, settlement)

    async def _settle_and_ack(self, job: _Job, settlement: Settlement | None) -> None:
        try:
            if settlement is not None and not await self._settlements.settle(settlement):
                log.warning("late_outcome_ignored", delivery=str(settlement.task.delivery_id))
                await self._record_late_acceptance(settlement.resolution.transition)
        finally:
            self._in_flight_jobs.discard(job)
            job.record.ack()

    async def _record_late_acceptance(self, transition: Transition) -> None:
        """The lease was over before the answer came, and the attempt was settled as unknown. That the provider did
        take the message is worth as much as a receipt: whoever would repeat it can leave it.
        """
        if transition.type is not EventType.SENT or transition.provider_id is None:
            return
        statement = ReceiptEntry(
            delivery_id=transition.delivery_id,
            attempt=transition.attempt,
            provider_id=transition.provider_id,
            receipt_id=f"late answer to attempt {transition.attempt}",
            type=transition.type,
            occurred_at=transition.occurred_at,
            detail="the answer came after the lease was over",
        )
        with contextlib.suppress(*UNAVAILABLE_ERRORS):  # then the class decides, as for any unknown outcome
            # The recovery loop announces it.
            await receipts.apply(self._db, [statement], now=utc_now(), outbox_retry_after=timedelta(0))

    def _open_account(self, bulkhead: Bulkhead, assignment: Assignment) -> Account | str:
        """The opened account; or, in words, why this provider cannot be used now."""
        row = self._config.providers.get(assignment.provider_id)
        unusable = _why_unusable(assignment, row)
        if unusable is not None:
            return unusable
        if row is None:  # and usable: the sandbox
            return _SANDBOX_ACCOUNT
        if bulkhead.account is None or bulkhead.account.version != row.version:
            try:
                bulkhead.account = open_account(row, self._cipher)
            except UnusableAccountError as error:
                log.error("provider_unusable", provider=str(row.id), error=str(error))
                return "the provider's credentials cannot be used"
        return bulkhead.account

    async def _claim(self, jobs: Sequence[_Job]) -> list[Claimed | None]:
        # A record may be here twice, and with a later attempt of the same delivery: a claim belongs to one job.
        owners: dict[tuple[UUID, int], _Job] = {}
        for job in jobs:
            owners.setdefault(_attempt_of(job), job)
        claims = [_claim_of(job) for job in owners.values()]
        while True:
            begun = time.monotonic()
            assert failpoints.hit("claim.before_write")
            try:
                won = await deliveries.claim(
                    self._db, claims, now=utc_now(), lease=timedelta(seconds=self._settings.attempt_lease)
                )
                break
            except UNAVAILABLE_ERRORS as error:
                log.warning("claim_retrying", error=type(error).__name__, waiting=len(jobs))
                await asyncio.sleep(_RETRY_DELAY)
                if not any(job.record.owned for job in jobs):
                    return [None] * len(jobs)
        assert failpoints.hit("claim.written")
        for job in jobs:
            job.claimed_at = begun
        won_by = dict(zip(owners.values(), won, strict=True))
        return [won_by.get(job) for job in jobs]

    async def _attempt(self, job: _Job, claimed: Claimed, callback_url: str | None, account: Account) -> Outcome:
        content = content_adapter.validate_json(claimed.content)
        blobs: Mapping[str, bytes] = {}
        if isinstance(content, Email) and content.attachments:
            digests = [attachment.sha256 for attachment in content.attachments]
            blobs = await messages.attachments(self._db, job.assignment.task.project_id, digests)
        outbound = OutboundMessage(
            content=content,
            recipient=claimed.recipient,
            reference=job.reference,
            message_id=ids.encode_id("msg", claimed.message_id),
            created_at=claimed.created_at,
            attempted_at=utc_now(),
            attachments=blobs,
            callback_url=callback_url,
        )
        # The process may have been stopped since the claim: a lease that is nearly over gives no right to call.
        left = job.claimed_at + self._settings.attempt_lease - time.monotonic() - _LEASE_MARGIN
        if left <= 0:
            return ProviderFault("not called: the worker was held up until its lease was over")
        assert failpoints.hit("call.before")
        deadline = min(left, self._settings.provider_timeout)
        outcome = await self._calls.call(account, outbound, deadline=deadline)
        assert failpoints.hit("call.answered")
        return outcome

    def _resolve(
        self, bulkhead: Bulkhead, job: _Job, package: AnyPackage, outcome: Outcome, started: datetime
    ) -> Settlement:
        now = utc_now()
        hold: timedelta | None = None
        if isinstance(outcome, Throttled):
            hold = throttle_duration(outcome) or timedelta(seconds=1)
            bulkhead.throttled_until = max(bulkhead.throttled_until, time.monotonic() + hold.total_seconds())
        elif isinstance(outcome, AuthFailed):
            log.error("provider_auth_failed", provider=str(job.assignment.provider_id), reason=outcome.detail)
        metrics.series(metrics.DELIVERY_ATTEMPTS, package.name, outcome_name(outcome)).inc()
        took = (now - started).total_seconds()
        metrics.series(metrics.PROVIDER_REQUEST_DURATION, package.name).observe(took)
        if not isinstance(outcome, Unknown):
            bulkhead.record_latency(took)
        repeat = RetryHandle(provider_id=job.assignment.provider_id, reference=job.reference)
        resolution = resolve(
            job.assignment.task, repeat, outcome, idempotent=package.idempotent, at=now, policy=self._settings
        )
        scope = outcome.scope if isinstance(outcome, Declined | Throttled) else None
        return Settlement(job.assignment.task, resolution, started, hold, scope)

    # -- lanes and leases -----------------------------------------------------------------------------------------

    async def _reroute(self, job: _Job, reason: str, *, after: float = 0.0) -> None:
        """Give an unclaimed delivery back to the router; no attempt was made.

        ``after`` a pause where the router may not have heard yet what we know, or the two would play ping-pong.
        """
        await asyncio.sleep(after)
        task = job.assignment.task
        avoided = task.model_copy(
            update={"deprioritized": (*task.deprioritized, job.assignment.provider_id), "last_error": reason}
        )
        assert failpoints.hit("reroute.before_publish")
        if not await wait_for_acks([self._publisher.publish(Topic.REROUTE, None, avoided.encode())]):
            log.warning("reroute_failed", delivery=str(task.delivery_id))  # it falls due and is driven again
        assert failpoints.hit("reroute.published")
        job.record.ack()

    async def _monitor_bulkheads(self) -> None:
        """Give back what waits too long for a slot, start what was held, tell who is silent."""
        patience = self._settings.provider_queue_timeout
        while True:
            asleep = time.monotonic()
            await asyncio.sleep(min(_CHECK_INTERVAL, patience / 4))
            now = time.monotonic()
            late = now - asleep > _MIN_QUEUE_TIMEOUT  # then answers may be here that nobody has looked at
            for provider_id, bulkhead in list(self._bulkheads.items()):
                if bulkhead.available > 0 and not (bulkhead.urgent_queue or bulkhead.standard_queue):
                    continue  # most of ten thousand
                if not (bulkhead.unresponsive or late):
                    bulkhead.unresponsive = bulkhead.is_unresponsive(now, patience)
                too_long = bulkhead.queue_timeout(patience) if bulkhead.unresponsive else patience
                for waiting in (bulkhead.urgent_queue, bulkhead.standard_queue):
                    while waiting and now - waiting[0].enqueued_at > too_long:
                        self._on_queue_timeout(bulkhead, waiting.popleft(), now)
                self._dispatch_ready(bulkhead)
                if bulkhead.unresponsive and now - bulkhead.last_reported > patience:
                    self._report_unresponsive(provider_id, bulkhead, now)

    def _report_unresponsive(self, provider_id: UUID, bulkhead: Bulkhead, now: float) -> None:
        """Let the health service know of a provider that answers nobody, before the first deadline shows it."""
        row = self._config.providers.get(provider_id)
        if row is None:
            return
        silent = ProviderUnresponsive(
            provider_id=provider_id,
            project_id=row.project_id,
            channel=row.channel,
            concurrency=bulkhead.concurrency,
            unresponsive_for_s=round(now - bulkhead.saturated_since, 1),
            occurred_at=utc_now(),
        )
        bulkhead.last_reported = now
        log.warning(
            "provider_unresponsive",
            provider=str(provider_id),
            slots=silent.concurrency,
            seconds=silent.unresponsive_for_s,
        )
        self._publisher.publish(Topic.EVENTS, provider_id.bytes, silent.encode())

    def _on_queue_timeout(self, bulkhead: Bulkhead, job: _Job, now: float) -> None:
        """Give it back if somebody else could take it, or nobody may for long; otherwise it keeps its place."""
        task = job.assignment.task
        without = {job.assignment.provider_id, *task.attempted_providers, *task.deprioritized}
        candidates = self._config.candidates(task.project_id, task.channel)
        free = any(self._bulkhead(row.id, row).available > 0 for row in candidates if row.id not in without)
        if free or bulkhead.throttled_until - now > self._settings.provider_queue_timeout:
            self._tasks.spawn(self._reroute(job, "the provider has no free slot"))
            return
        job.enqueued_at = now
        bulkhead.enqueue(job)

    async def _renew_leases(self) -> None:
        """Prolong the leases of calls that take long; most end before they need it."""
        lease = self._settings.attempt_lease
        while True:
            await asyncio.sleep(lease / 6)
            old = [job for job in self._in_flight_jobs if time.monotonic() - job.claimed_at > lease / 3]
            if not old:
                continue
            held = [(job.assignment.task.delivery_id, job.assignment.task.attempt) for job in old]
            assert failpoints.hit("lease.before_renew")
            with contextlib.suppress(*UNAVAILABLE_ERRORS):
                await deliveries.renew(self._db, held, until=utc_now() + timedelta(seconds=lease))
            assert failpoints.hit("lease.renewed")


def _why_unusable(assignment: Assignment, row: ProviderRow | None) -> str | None:
    """Why the assignment's provider, which has this row, cannot be used now; the sandbox has none."""
    if row is None and assignment.provider_id == SANDBOX_PROVIDER_ID:
        return None if assignment.task.sandbox else "the sandbox takes the messages of test keys only"
    if row is None or row.deleted or not row.enabled or row.project_id != assignment.task.project_id:
        return "the provider was removed or disabled"
    return None if row.package in registry.installed() else f"{row.package} is not installed here"


def _parse(record: Record) -> Assignment | None:
    try:
        return Assignment.model_validate_json(record.value or b"")
    except ValidationError:
        return None


def _attempt_of(job: _Job) -> tuple[UUID, int]:
    return job.assignment.task.delivery_id, job.assignment.task.attempt


def _claim_of(job: _Job) -> Claim:
    assignment, task = job.assignment, job.assignment.task
    return Claim(
        delivery_id=task.delivery_id,
        project_id=task.project_id,
        attempt=task.attempt,
        provider_id=assignment.provider_id,
        retry_round=task.retry_round,
        reference=assignment.reference,
        routing_decision=assignment.routing_decision,
        idempotent=job.idempotent,
    )
