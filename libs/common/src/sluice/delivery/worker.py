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
from sluice.bus.dead_letters import set_aside
from sluice.bus.messages import Assignment, ProviderSilent, Repeat
from sluice.bus.publisher import Publisher, acknowledged
from sluice.bus.topics import Topic
from sluice.delivery.retry_policy import Timing, conclude, expire, held_for, outcome_name
from sluice.delivery.sandbox import SANDBOX_ID
from sluice.delivery.settlement import Settlement, Settler
from sluice.model import ids
from sluice.model.message import Class, Email, content_adapter
from sluice.model.outcome import AuthFailed, Outcome, ProviderFault, Throttled, Unknown
from sluice.model.state import EventKind
from sluice.providers import registry
from sluice.providers.adapters.sandbox import SANDBOX
from sluice.providers.contract import AnyPackage, Credentials, Outgoing
from sluice.runtime import failpoints, metrics
from sluice.runtime.batching import Batcher
from sluice.runtime.clock import utc_now
from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import KeyedSettings
from sluice.runtime.tasks import Tasks, end, lasting
from sluice.store import deliveries, messages, receipts
from sluice.store.cipher import Vault
from sluice.store.config_cache import Configuration
from sluice.store.configuration import ProviderRow
from sluice.store.db import UNAVAILABLE, Db
from sluice.store.deliveries import Claim, Claimed, Transition
from sluice.store.receipts import Statement
from sluice.transports.provider_call import Wires, call

log = structlog.get_logger()

_AGAIN = 0.3  # seconds before a claim is tried again while Postgres is away
_SPARE = 1.0  # seconds of the lease that must be left beyond the deadline when a call starts

# So many calls, of which none ends for so many times as long as they take on average, are not in the hands of a
# provider that works. Fewer say less: they get the whole patience.
_CALLS_THAT_TELL = 10
_TIMES_AS_LONG = 5.0
_LEAST_PATIENCE = 0.25  # seconds
_LOOK_EVERY = 0.1  # seconds


class WorkerSettings(Timing, KeyedSettings):
    """Settings of a worker."""

    provider_slots: int = Field(256, ge=1, description="calls in flight at one provider")
    # What waits for one provider's slots must not keep other projects' assignments from being read at all.
    look_ahead: int = Field(5000, ge=1, description="assignments read and not finished")
    lane_patience: float = Field(2.0, gt=0, description="how long a message waits for a slot before it is re-routed")
    callback_base: str | None = Field(None, description="public address of the gateway, for providers' receipts")


@dataclass(eq=False, slots=True)
class _Job:
    """One assignment on its way through the worker."""

    record: Record
    assignment: Assignment
    arrived: float  # monotonic time
    claimed_at: float = 0.0  # monotonic time
    idempotent: bool = False  # the provider's package is
    reference: str = ""  # the claimed one


@dataclass(slots=True)
class _Lane:
    """The calls of one provider: a slow one holds only its own slots."""

    slots: int
    version: int = 0  # of the provider's row that says how many
    callback_url: str | None = None  # where the provider may tell what became of a message
    account: tuple[int, AnyPackage, Credentials] | None = None  # as opened, with the version of the row it is from
    free: int = 0
    urgent: deque[_Job] = field(default_factory=deque)
    calm: deque[_Job] = field(default_factory=deque)
    calls: set[_Job] = field(default_factory=set)  # claimed and without an answer
    held_until: float = 0.0  # monotonic time; no call before
    full_since: float = inf  # monotonic time since which no slot was free
    silent: bool = False  # what keeps_silent said, until a slot comes free
    told_silent: float = -inf  # monotonic time
    takes: float = inf  # seconds that a call takes, the last ones counting most

    def __post_init__(self) -> None:
        self.free = self.slots

    def resize(self, slots: int, version: int) -> None:
        """Have so many slots from now on; calls beyond them end in their time."""
        self.free += slots - self.slots
        self.slots, self.version = slots, version
        if self.free > 0:
            self.full_since, self.silent = inf, False

    def join(self, job: _Job) -> None:
        """Wait for a slot, behind those of the same rank."""
        (self.urgent if job.assignment.drive.class_ is Class.URGENT else self.calm).append(job)

    def ended(self, took: float) -> None:
        """A call was answered after so many seconds."""
        self.takes = took if self.takes == inf else 0.9 * self.takes + 0.1 * took

    def patience(self, most: float) -> float:
        """Seconds after which a provider that keeps all slots taken can be called silent."""
        if self.slots < _CALLS_THAT_TELL:
            return most
        return min(most, max(_LEAST_PATIENCE, _TIMES_AS_LONG * self.takes))

    def keeps_silent(self, now: float, most: float) -> bool:
        """Whether every slot is with a call, and none of them has ended for longer than a patience of ``most`` allows.

        Slots that wait for a claim say something about the record, not about the provider.
        """
        patience = self.patience(most)
        if now - self.full_since <= patience or len(self.calls) < self.slots:
            return False
        return all(now - job.claimed_at > patience for job in self.calls)

    def next(self) -> _Job | None:
        """Whose turn it is, if anybody's."""
        waiting = self.urgent or self.calm
        return waiting.popleft() if waiting else None


class Worker:
    """Takes assignments from the bus and carries them through."""

    def __init__(
        self,
        *,
        db: Db,
        configuration: Configuration,
        vault: Vault,
        wires: Wires,
        publisher: Publisher,
        settler: Settler,
        settings: WorkerSettings,
    ) -> None:
        self._db = db
        self._configuration = configuration
        self._vault = vault
        self._wires = wires
        self._publisher = publisher
        self._settler = settler
        self._settings = settings
        self._lanes: dict[UUID, _Lane] = {}
        self._flying: set[_Job] = set()
        self._tasks = Tasks()
        self._claims: Batcher[_Job, Claimed | None] = Batcher(
            self._claim, name="claim", size=200, parallel=2, pace=0.010, split_on=(asyncpg.DataError, ValueError)
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        """Work until the block ends."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._claims.running())
            keepers = [
                lasting(self._keep_leases(), name="keep-leases"),
                lasting(self._mind_lanes(), name="mind-lanes"),
            ]
            try:
                yield self
            finally:
                await end(*keepers)
                await self._tasks.ended()

    @property
    def in_flight(self) -> int:
        """Attempts that are claimed and not settled."""
        return len(self._flying)

    # -- from the bus to the lanes --------------------------------------------------------------------------------

    async def take(self, records: list[Record]) -> None:
        """Take a batch over; each record is finished when nothing of it can be lost any more."""
        arrived, now = time.monotonic(), utc_now()
        for record in records:
            assignment = _read(record)
            if assignment is None:
                self._tasks.spawn(
                    set_aside(self._publisher, record, "not an assignment of a schema that this version reads")
                )
                continue
            job = _Job(record, assignment, arrived)
            row = self._configuration.providers.get(assignment.provider_id)
            unusable = _unusable(assignment, row)
            if unusable is not None:
                self._tasks.spawn(self._hand_back(job, unusable, after=_AGAIN))
            elif assignment.drive.expires_at <= now:
                self._tasks.spawn(self._finish(job, Settlement(assignment.drive, expire(assignment.drive, at=now))))
            else:
                lane = self._lane(assignment.provider_id, row)
                if lane.silent:
                    self._mind(lane, job, arrived)  # nothing comes back from there: it would only wait
                else:
                    lane.join(job)
                    self._pump(lane)

    def _lane(self, provider_id: UUID, row: ProviderRow | None) -> _Lane:
        version = 0 if row is None else row.version
        lane = self._lanes.get(provider_id)
        if lane is None:
            url = self._callback_url(provider_id)
            lane = self._lanes[provider_id] = _Lane(self._slots_of(row), version, url)
        elif lane.version != version:
            lane.resize(self._slots_of(row), version)
        return lane

    def _callback_url(self, provider_id: UUID) -> str | None:
        base = self._settings.callback_base
        return f"{base.rstrip('/')}/v1/receipts/{ids.shown('prv', provider_id)}" if base else None

    def _slots_of(self, row: ProviderRow | None) -> int:
        if row is None:
            return self._settings.provider_slots
        asked = row.settings.get("concurrency") or registry.package_named(row.package).concurrency
        return asked if isinstance(asked, int) and asked > 0 else self._settings.provider_slots

    def _pump(self, lane: _Lane) -> None:
        while lane.free > 0 and lane.held_until <= time.monotonic() and (job := lane.next()):
            if not job.record.alive:
                job.record.done()
                continue
            lane.free -= 1
            if lane.free <= 0:
                lane.full_since = time.monotonic()
            self._tasks.spawn(self._carry(lane, job))

    # -- one delivery ---------------------------------------------------------------------------------------------

    async def _carry(self, lane: _Lane, job: _Job) -> None:
        settlement: Settlement | None = None
        try:
            ready = self._account(lane, job.assignment)
            if isinstance(ready, str):
                await self._hand_back(job, ready)
                return
            job.idempotent = ready[0].idempotent
            claimed = await self._claims.submit(job)
            if claimed is None:
                job.record.done()
                return
            job.reference = claimed.reference
            self._flying.add(job)
            started = utc_now()
            lane.calls.add(job)
            outcome = await self._attempt(job, claimed, lane.callback_url, *ready)
            settlement = self._conclude(lane, job, ready[0], outcome, started)
        except Exception as error:
            # Nothing is lost: an attempt without an outcome lapses (its lease is renewed no more), an unclaimed
            # delivery falls due.
            self._flying.discard(job)
            log.exception("delivery_interrupted", delivery=str(job.assignment.drive.delivery_id))
            if isinstance(error, asyncpg.DataError | ValueError):
                self._tasks.spawn(set_aside(self._publisher, job.record, f"{type(error).__name__}: {error}"[:300]))
                return
        finally:
            lane.calls.discard(job)
            lane.free += 1
            lane.full_since = inf
            lane.silent = False
            self._pump(lane)
        await self._finish(job, settlement)

    async def _finish(self, job: _Job, settlement: Settlement | None) -> None:
        try:
            if settlement is not None and not await self._settler.settle(settlement):
                log.warning("settled_by_another", delivery=str(settlement.drive.delivery_id))
                await self._tell_late(settlement.conclusion.step)
        finally:
            self._flying.discard(job)
            job.record.done()

    async def _tell_late(self, step: Transition) -> None:
        """The lease was over before the answer came, and the attempt was settled as unknown. That the provider did
        take the message is worth as much as a receipt: whoever would repeat it can leave it.
        """
        if step.kind is not EventKind.SENT or step.provider_id is None:
            return
        statement = Statement(
            delivery_id=step.delivery_id,
            attempt=step.attempt,
            provider_id=step.provider_id,
            receipt_id=f"late answer to attempt {step.attempt}",
            kind=step.kind,
            at=step.at,
            detail="the answer came after the lease was over",
        )
        with contextlib.suppress(*UNAVAILABLE):  # then the class decides, as for any unknown outcome
            # The recovery loop announces it.
            await receipts.apply(self._db, [statement], now=utc_now(), announce_within=timedelta(0))

    def _account(self, lane: _Lane, assignment: Assignment) -> tuple[AnyPackage, Credentials] | str:
        """The package and the opened credentials; or, in words, why this provider cannot be used now."""
        row = self._configuration.providers.get(assignment.provider_id)
        unusable = _unusable(assignment, row)
        if unusable is not None:
            return unusable
        if row is None:  # and usable: the sandbox
            return SANDBOX, SANDBOX.credentials()
        if lane.account is None or lane.account[0] != row.version:
            try:
                package = registry.package_named(row.package)
                opened = self._vault.open(row.credentials, project_id=row.project_id, provider_id=row.id)
                lane.account = row.version, package, package.credentials.model_validate_json(opened)
            except (SluiceError, ValidationError, LookupError) as error:
                # The text of a ValidationError would show the credentials.
                log.error("provider_unusable", provider=str(row.id), error=type(error).__name__)
                return "the provider's credentials cannot be used"
        return lane.account[1:]

    async def _claim(self, jobs: Sequence[_Job]) -> list[Claimed | None]:
        # A record may be here twice, and with a later attempt of the same delivery: a claim belongs to one job.
        owners: dict[tuple[UUID, int], _Job] = {}
        for job in jobs:
            owners.setdefault(_attempt_of(job), job)
        claims = [_claim_of(job) for job in owners.values()]
        while True:
            begun = time.monotonic()
            assert failpoints.at("claim.before_write")
            try:
                won = await deliveries.claim(
                    self._db, claims, now=utc_now(), lease=timedelta(seconds=self._settings.lease)
                )
                break
            except UNAVAILABLE as error:
                log.warning("claim_waits", error=type(error).__name__, waiting=len(jobs))
                await asyncio.sleep(_AGAIN)
                if not any(job.record.alive for job in jobs):
                    return [None] * len(jobs)
        assert failpoints.at("claim.written")
        for job in jobs:
            job.claimed_at = begun
        won_by = dict(zip(owners.values(), won, strict=True))
        return [won_by.get(job) for job in jobs]

    async def _attempt(
        self, job: _Job, claimed: Claimed, callback_url: str | None, package: AnyPackage, credentials: Credentials
    ) -> Outcome:
        content = content_adapter.validate_json(claimed.content)
        blobs: Mapping[str, bytes] = {}
        if isinstance(content, Email) and content.attachments:
            digests = [attachment.sha256 for attachment in content.attachments]
            blobs = await messages.attachments(self._db, job.assignment.drive.project_id, digests)
        outgoing = Outgoing(
            content=content,
            recipient=claimed.recipient,
            reference=job.reference,
            message_id=ids.shown("msg", claimed.message_id),
            created_at=claimed.created_at,
            attachments=blobs,
            callback_url=callback_url,
        )
        # The process may have been stopped since the claim: a lease that is nearly over gives no right to call.
        left = job.claimed_at + self._settings.lease - time.monotonic() - _SPARE
        if left <= 0:
            return ProviderFault("not called: the worker was held up until its lease was over")
        assert failpoints.at("call.before")
        deadline = min(left, self._settings.call_deadline)
        outcome = await call(package, outgoing, credentials, self._wires, deadline=deadline)
        assert failpoints.at("call.answered")
        return outcome

    def _conclude(self, lane: _Lane, job: _Job, package: AnyPackage, outcome: Outcome, started: datetime) -> Settlement:
        now = utc_now()
        hold: timedelta | None = None
        if isinstance(outcome, Throttled):
            hold = held_for(outcome) or timedelta(seconds=1)
            lane.held_until = max(lane.held_until, time.monotonic() + hold.total_seconds())
        elif isinstance(outcome, AuthFailed):
            log.error("provider_auth_failed", provider=str(job.assignment.provider_id), reason=outcome.reason)
        metrics.of(metrics.ATTEMPTS, package.name, outcome_name(outcome)).inc()
        took = (now - started).total_seconds()
        metrics.of(metrics.CALL_SECONDS, package.name).observe(took)
        if not isinstance(outcome, Unknown):
            lane.ended(took)
        repeat = Repeat(provider_id=job.assignment.provider_id, reference=job.reference)
        conclusion = conclude(
            job.assignment.drive, repeat, outcome, idempotent=package.idempotent, at=now, timing=self._settings
        )
        return Settlement(job.assignment.drive, conclusion, started, hold)

    # -- lanes and leases -----------------------------------------------------------------------------------------

    async def _hand_back(self, job: _Job, reason: str, *, after: float = 0.0) -> None:
        """Give an unclaimed delivery back to the router; no attempt was made.

        ``after`` a pause where the router may not have heard yet what we know, or the two would play ping-pong.
        """
        await asyncio.sleep(after)
        drive = job.assignment.drive
        avoided = drive.model_copy(update={"avoid": (*drive.avoid, job.assignment.provider_id), "last_reason": reason})
        assert failpoints.at("hand_back.before_publish")
        if not await acknowledged([self._publisher.publish(Topic.REROUTE, None, avoided.encode())]):
            log.warning("hand_back_failed", delivery=str(drive.delivery_id))  # it falls due and is driven again
        assert failpoints.at("hand_back.published")
        job.record.done()

    async def _mind_lanes(self) -> None:
        """Give back what waits too long for a slot, start what was held, tell who is silent."""
        patience = self._settings.lane_patience
        while True:
            asleep = time.monotonic()
            await asyncio.sleep(min(_LOOK_EVERY, patience / 4))
            now = time.monotonic()
            late = now - asleep > _LEAST_PATIENCE  # then answers may be here that nobody has looked at
            for provider_id, lane in list(self._lanes.items()):
                if lane.free > 0 and not (lane.urgent or lane.calm):
                    continue  # most of ten thousand
                if not (lane.silent or late):
                    lane.silent = lane.keeps_silent(now, patience)
                too_long = lane.patience(patience) if lane.silent else patience
                for waiting in (lane.urgent, lane.calm):
                    while waiting and now - waiting[0].arrived > too_long:
                        self._mind(lane, waiting.popleft(), now)
                self._pump(lane)
                if lane.silent and now - lane.told_silent > patience:
                    self._tell_silence(provider_id, lane, now)

    def _tell_silence(self, provider_id: UUID, lane: _Lane, now: float) -> None:
        """Let the health service know of a provider that answers nobody, before the first deadline shows it."""
        row = self._configuration.providers.get(provider_id)
        if row is None:
            return
        silent = ProviderSilent(
            provider_id=provider_id,
            project_id=row.project_id,
            channel=row.channel,
            slots=lane.slots,
            seconds=round(now - lane.full_since, 1),
            at=utc_now(),
        )
        lane.told_silent = now
        log.warning("provider_silent", provider=str(provider_id), slots=silent.slots, seconds=silent.seconds)
        self._publisher.publish(Topic.EVENTS, provider_id.bytes, silent.encode())

    def _mind(self, lane: _Lane, job: _Job, now: float) -> None:
        """Give it back if somebody else could take it, or nobody may for long; otherwise it keeps its place."""
        drive = job.assignment.drive
        without = {job.assignment.provider_id, *drive.tried, *drive.avoid}
        candidates = self._configuration.candidates(drive.project_id, drive.channel)
        free = any(self._lane(row.id, row).free > 0 for row in candidates if row.id not in without)
        if free or lane.held_until - now > self._settings.lane_patience:
            self._tasks.spawn(self._hand_back(job, "the provider has no free slot"))
            return
        job.arrived = now
        lane.join(job)

    async def _keep_leases(self) -> None:
        """Prolong the leases of calls that take long; most end before they need it."""
        lease = self._settings.lease
        while True:
            await asyncio.sleep(lease / 6)
            old = [job for job in self._flying if time.monotonic() - job.claimed_at > lease / 3]
            if not old:
                continue
            held = [(job.assignment.drive.delivery_id, job.assignment.drive.attempt) for job in old]
            assert failpoints.at("lease.before_renew")
            with contextlib.suppress(*UNAVAILABLE):
                await deliveries.renew(self._db, held, until=utc_now() + timedelta(seconds=lease))
            assert failpoints.at("lease.renewed")


def _unusable(assignment: Assignment, row: ProviderRow | None) -> str | None:
    """Why the assignment's provider, which has this row, cannot be used now; the sandbox has none."""
    if row is None and assignment.provider_id == SANDBOX_ID:
        return None if assignment.drive.sandbox else "the sandbox takes the messages of test keys only"
    if row is None or row.deleted or not row.enabled or row.project_id != assignment.drive.project_id:
        return "the provider was removed or disabled"
    return None if row.package in registry.installed() else f"{row.package} is not installed here"


def _read(record: Record) -> Assignment | None:
    try:
        return Assignment.model_validate_json(record.value or b"")
    except ValidationError:
        return None


def _attempt_of(job: _Job) -> tuple[UUID, int]:
    return job.assignment.drive.delivery_id, job.assignment.drive.attempt


def _claim_of(job: _Job) -> Claim:
    assignment, drive = job.assignment, job.assignment.drive
    return Claim(
        delivery_id=drive.delivery_id,
        project_id=drive.project_id,
        number=drive.attempt,
        provider_id=assignment.provider_id,
        round=drive.round,
        reference=assignment.reference,
        decision=assignment.decision,
        idempotent=job.idempotent,
    )
