"""The wiring of the event-worker: FastStream consumes ``delivery.events`` and ``dead.letters``."""

from __future__ import annotations

from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from event_worker.dead_letters import DeadLetterProjection
from event_worker.service import EventService
from sluice.bootstrap import role
from sluice.bus.subscriber import Records, SubscriberRunner, subscribe_to_batches
from sluice.bus.topics import Group, Topic
from sluice.runtime.http_server import ops_app
from sluice.runtime.settings import Settings, load

_FETCH_WAIT_MS = 500  # delays no message: consequences of events are not on the path of a delivery
_FETCH_MIN_BYTES = 1 << 18
_MAX_RECORDS = 2000  # one batch, and so one commit


def subscribe(broker: KafkaBroker, service: EventService) -> BatchSubscriber:
    """The subscriber of ``delivery.events``."""
    subscriber = subscribe_to_batches(
        broker,
        Topic.EVENTS.value,
        group=Group.EVENT_WORKER.value,
        max_records=_MAX_RECORDS,
        fetch_min_bytes=_FETCH_MIN_BYTES,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        # Commit after the handler; if it failed, rewind to the beginning of the batch. No event may be skipped, and
        # everything that the handler does may be repeated. The rewind is immediate, so the handler pauses before it
        # raises.
        ack_policy=AckPolicy.NACK_ON_ERROR,
        auto_offset_reset="earliest",
    )

    @subscriber
    async def on_events(records: Records) -> None:
        await service.on_events(records)

    return subscriber


def subscribe_to_letters(broker: KafkaBroker, projection: DeadLetterProjection) -> BatchSubscriber:
    """The subscriber of ``dead.letters``, with the policy of events."""
    subscriber = subscribe_to_batches(
        broker,
        Topic.DEAD_LETTERS.value,
        group=Group.DEAD_LETTERS.value,
        max_records=_MAX_RECORDS,
        fetch_min_bytes=1,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        auto_offset_reset="earliest",
    )

    @subscriber
    async def on_letters(records: Records) -> None:
        await projection.on_letters(records)

    return subscriber


async def main() -> None:
    """Consume events and dead letters until the shutdown."""
    settings = load(Settings)
    async with role("event-worker", settings) as process:
        projection = DeadLetterProjection(await process.open_pool())
        letters = SubscriberRunner(
            lambda broker: subscribe_to_letters(broker, projection),
            kafka=process.kafka,
            group=Group.DEAD_LETTERS,
            drain=process.drain_timeout,
        )
        service = EventService(await process.open_publisher())
        consumer = SubscriberRunner(
            lambda broker: subscribe(broker, service),
            kafka=process.kafka,
            group=Group.EVENT_WORKER,
            drain=process.drain_timeout,
        )
        await process.serve(ops_app(process.readiness))
        await process.run(consumer, letters.run())
