"""The wiring of the event-worker: FastStream consumes ``delivery.events``."""

from __future__ import annotations

from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from event_worker.projections import projections_of
from event_worker.service import EventService
from event_worker.silence import SilenceMonitor, SilenceSettings
from sluice.bootstrap import role
from sluice.bus.subscriber import Records, SubscriberRunner, subscribe_to_batches
from sluice.bus.topics import Group, Topic
from sluice.runtime.http_server import ops_app
from sluice.runtime.settings import load

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


async def main() -> None:
    """Consume events until the shutdown."""
    settings = load(SilenceSettings)
    async with role("event-worker", settings) as process:
        pool = await process.open_pool()
        service = EventService(await process.open_publisher(), projections_of(pool))
        consumer = SubscriberRunner(
            lambda broker: subscribe(broker, service),
            kafka=process.kafka,
            group=Group.EVENT_WORKER,
            drain=process.drain_timeout,
        )
        await process.serve(ops_app(process.readiness))
        await process.run(consumer, SilenceMonitor(pool, settings).run())
