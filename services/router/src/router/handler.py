"""Drives in, assignments out; what nobody can take now is postponed or ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import orjson
import structlog
from pydantic import ValidationError

from sluice.bus.consumer import Record
from sluice.bus.dead_letters import set_aside
from sluice.bus.messages import Assignment, Drive
from sluice.bus.publisher import Publication, Publisher, acknowledged
from sluice.bus.topics import Topic, deliveries
from sluice.delivery.retry_policy import Conclusion, Timing, expire, give_up, wait
from sluice.delivery.sandbox import SANDBOX_ID
from sluice.delivery.settlement import Settlement, Settler
from sluice.model.ids import reference_of
from sluice.model.state import EventKind
from sluice.providers.adapters.sandbox import SANDBOX
from sluice.routing.probe_budget import Probes
from sluice.routing.selection import Exhausted, Health, Route, Wait, choose
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import Tasks
from sluice.store.config_cache import Configuration

log = structlog.get_logger()

_WHY_SANDBOX = orjson.dumps({"chosen": str(SANDBOX_ID), "why": "the key is a test key", "left_out": {}}).decode()


class Routing:
    """Decides about drives and hands them on."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        health: Health,
        publisher: Publisher,
        settler: Settler,
        timing: Timing,
    ) -> None:
        self._configuration = configuration
        self._health = health
        self._publisher = publisher
        self._settler = settler
        self._timing = timing
        self._probes = Probes()
        self._tasks = Tasks()

    async def take(self, records: list[Record]) -> None:
        """Take a batch over; each record is finished once what follows from it is on the bus or in the record."""
        now = utc_now()
        for record in records:
            try:
                drive = Drive.model_validate_json(record.value or b"")
            except ValidationError:
                self._tasks.spawn(set_aside(self._publisher, record, "not a drive of a schema that this version reads"))
                continue
            try:
                self._decide(record, drive, now)
            except Exception as error:  # a bug must not stop the others; the delivery falls due and comes again
                log.exception("not_decided", delivery=str(drive.delivery_id))
                self._tasks.spawn(set_aside(self._publisher, record, f"no decision: {type(error).__name__}"))

    async def drained(self) -> None:
        """Return when everything taken over is finished."""
        await self._tasks.ended()

    def _decide(self, record: Record, drive: Drive, now: datetime) -> None:
        if drive.expires_at <= now:
            self._tasks.spawn(self._conclude(record, drive, expire(drive, at=now)))
            return
        assignment = self._assign(drive, record.value or b"", now)
        if isinstance(assignment, Conclusion):
            self._tasks.spawn(self._conclude(record, drive, assignment))
            return
        metrics.of(metrics.ROUTED, drive.channel, "route").inc()
        assert failpoints.at("route.before_publish")
        sent = self._publisher.publish(deliveries(drive.channel), None, assignment)
        sent.then(lambda publication: self._published(publication, record, drive))

    def _published(self, publication: Publication, record: Record, drive: Drive) -> None:
        # An assignment that Kafka did not take is not lost: the delivery falls due and is driven again.
        if publication.error:
            log.warning("assignment_not_published", delivery=str(drive.delivery_id), error=publication.error)
        assert failpoints.at("route.published")
        record.done()

    def _assign(self, drive: Drive, came_as: bytes, now: datetime) -> bytes | Conclusion:
        if drive.sandbox:
            return _assignment(drive, came_as, SANDBOX_ID, SANDBOX.name, _WHY_SANDBOX)
        candidates = self._configuration.candidates(drive.project_id, drive.channel)
        choice = choose(drive, candidates, self._health, now, self._probes.may)
        match choice:
            case Route(provider, why, left_out, repeats, probes):
                if probes:
                    self._probes.went(self._health[provider.id], now)
                decision = _decision(provider.id, why, left_out)
                reference = drive.repeat.reference if repeats and drive.repeat else None
                return _assignment(drive, came_as, provider.id, provider.package, decision, reference)
            case Wait(until, _):
                metrics.of(metrics.ROUTED, drive.channel, "wait").inc()
                return wait(drive, until=until, reason=f"no provider may be called before {until:%H:%M:%S}", at=now)
            case Exhausted():
                metrics.of(metrics.ROUTED, drive.channel, "exhausted").inc()
                return give_up(drive, reason=_exhausted(drive, bool(candidates)), at=now, timing=self._timing)

    async def _conclude(self, record: Record, drive: Drive, conclusion: Conclusion) -> None:
        try:
            assert failpoints.at("route.before_conclude")
            applied = await self._settler.settle(Settlement(drive, conclusion))
            assert failpoints.at("route.concluded")
            if applied and conclusion.step.kind is EventKind.FAILED:
                await self._dead_letter(drive, conclusion)
        except Exception:
            log.exception("conclusion_not_written", delivery=str(drive.delivery_id))  # it falls due and comes again
        finally:
            record.done()

    async def _dead_letter(self, drive: Drive, conclusion: Conclusion) -> None:
        letter = {
            "kind": "failed_delivery",
            "delivery_id": str(drive.delivery_id),
            "message_id": str(drive.message_id),
            "project_id": str(drive.project_id),
            "channel": drive.channel.value,
            "reason": conclusion.step.detail,
            "at": conclusion.step.at.isoformat(),
        }
        published = self._publisher.publish(Topic.DEAD_LETTERS, drive.message_id.bytes, orjson.dumps(letter))
        if not await acknowledged([published]):
            log.warning("dead_letter_not_published", delivery=str(drive.delivery_id))
        assert failpoints.at("route.dead_letter")


def _assignment(
    drive: Drive, came_as: bytes, provider_id: UUID, package: str, decision: str, reference: str | None = None
) -> bytes:
    return Assignment.around(
        came_as,
        provider_id=provider_id,
        package=package,
        reference=reference or reference_of(drive.delivery_id, drive.attempt),
        decision=decision,
    )


def _decision(chosen: UUID, why: str, left_out: Mapping[UUID, str]) -> str:
    reasons = {str(id_): reason for id_, reason in left_out.items()}
    return orjson.dumps({"chosen": str(chosen), "why": why, "left_out": reasons}).decode()


def _exhausted(drive: Drive, any_provider: bool) -> str:
    if not any_provider:
        return f"the project has no enabled provider for {drive.channel.value}"
    return f"every provider was tried in round {drive.round}; the last said: {drive.last_reason or 'nothing'}"
