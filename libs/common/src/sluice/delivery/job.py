"""One assignment on its way through a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

import structlog
from pydantic import ValidationError

from sluice.bus.messages import Assignment, DeliveryTask
from sluice.bus.publisher import Publisher, wait_for_acks
from sluice.bus.topics import Topic, delivery_topic
from sluice.bus.window import Record
from sluice.model.message import DeliveryClass
from sluice.runtime import failpoints

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Job:
    """An assignment that is read and not acknowledged."""

    record: Record
    assignment: Assignment
    idempotent: bool = False  # the provider's package promises idempotency
    price: int | None = None  # of the provider, in millionths; None: it has none
    by_segment: bool = False  # the price is of one segment
    reference: str = ""  # the attempt reference of the claim
    claimed_at: float = 0.0  # monotonic time at which the claim was requested: the lease counts from it
    # Monotonic time until which the lease is renewed: the end of the current step of the call, or of the whole attempt.
    renew_until: float = 0.0

    @property
    def task(self) -> DeliveryTask:
        """The delivery task of the assignment."""
        return self.assignment.task

    @property
    def provider_id(self) -> UUID:
        """The assigned provider."""
        return self.assignment.provider_id

    @property
    def attempt(self) -> tuple[UUID, int]:
        """Delivery id and attempt number."""
        return self.task.delivery_id, self.task.attempt

    @property
    def urgent(self) -> bool:
        """Whether the delivery precedes those of other classes."""
        return self.task.delivery_class is DeliveryClass.URGENT


def parse_job(record: Record) -> Job | None:
    """The job of a record; None if the record is no assignment of a readable schema version."""
    try:
        assignment = Assignment.model_validate_json(record.value or b"")
    except ValidationError:
        return None
    task = assignment.task.below(record.headers)
    return Job(record, assignment if task is assignment.task else assignment.model_copy(update={"task": task}))


async def pass_on(publisher: Publisher, job: Job, *, delay: float) -> None:
    """Publish an assignment again, unchanged, for another worker of the channel; no attempt was made.

    ``delay`` (seconds) bounds how fast an assignment moves from worker to worker.
    """
    await asyncio.sleep(delay)
    await _publish_and_ack(publisher, delivery_topic(job.task.channel), job.assignment.encode(), job)


async def reroute(publisher: Publisher, job: Job, reason: str, *, delay: float = 0.0) -> None:
    """Return an unclaimed delivery to the router, which selects this provider last; no attempt was made.

    ``delay`` (seconds) avoids a reroute loop while the router's configuration is behind the worker's.
    """
    await asyncio.sleep(delay)
    deprioritized = dict.fromkeys((*job.task.deprioritized, job.provider_id))
    task = job.task.model_copy(update={"deprioritized": tuple(deprioritized), "hops": job.task.hops + 1})
    log.debug("delivery_handed_back", **task.ids(), provider=str(job.provider_id), reason=reason)
    await _publish_and_ack(publisher, Topic.REROUTE, task.encode(), job)


async def _publish_and_ack(publisher: Publisher, topic: str, value: bytes, job: Job) -> None:
    """Replace a job's record; if Kafka does not store the new one, the delivery falls due and is requeued."""
    assert failpoints.hit("reroute.before_publish")
    if not await wait_for_acks([publisher.publish(topic, None, value, job.task.headers())]):
        log.warning("reroute_failed", **job.task.ids(), topic=topic)
    assert failpoints.hit("reroute.published")
    job.record.ack()
