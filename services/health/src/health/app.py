"""The wiring of the health service: FastStream consumes the events, FastAPI shows the statuses."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from fastapi import FastAPI
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from health.service import HealthService
from sluice.bootstrap import role
from sluice.bus.client import seek_back
from sluice.bus.leader import LeaderAssignor
from sluice.bus.messages import ProviderHealth
from sluice.bus.subscriber import Records, SubscriberRunner, subscribe_to_batches
from sluice.bus.topics import Group, Topic
from sluice.health.monitor import HealthMonitor
from sluice.health.settings import HealthRuleSettings
from sluice.health.view import HealthView
from sluice.runtime.clock import utc_now
from sluice.runtime.http_server import Readiness, ops_routes
from sluice.runtime.settings import Settings, load

# Events are read in batches, and changed statuses are published after each: the wait bounds the delay of a status. A
# fetch costs the same with one record as with a thousand.
_FETCH_WAIT_MS = 200
_FETCH_MIN_BYTES = 1 << 20  # more than arrives in that time, so that the time decides
_MAX_RECORDS = 5000  # evaluated without a pause


class HealthSettings(Settings, HealthRuleSettings):
    """Settings of the health service."""


class _Leadership(ConsumerRebalanceListener):  # type: ignore[misc]
    """The process with the partitions leads."""

    def __init__(self, service: HealthService) -> None:
        self.subscriber: BatchSubscriber | None = None
        self._service = service

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._service.pause()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        if not assigned:
            self._service.stand_by()
            return

        async def rewind(back: timedelta) -> None:
            assert self.subscriber is not None
            assert self.subscriber.consumer is not None
            await seek_back(self.subscriber.consumer, assigned, utc_now() - back)

        await self._service.lead(rewind)


def subscribe(broker: KafkaBroker, service: HealthService) -> BatchSubscriber:
    """The subscriber of ``delivery.events``."""
    leadership = _Leadership(service)
    subscriber = subscribe_to_batches(
        broker,
        Topic.EVENTS.value,
        group=Group.HEALTH.value,
        max_records=_MAX_RECORDS,
        fetch_min_bytes=_FETCH_MIN_BYTES,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        # Commit after the handler, whether or not it failed. A batch that is lost is evidence that is lost, which newer
        # attempts replace; a batch that is repeated for ever would stop all evidence.
        ack_policy=AckPolicy.ACK,
        auto_offset_reset="latest",
        assignor=LeaderAssignor(),
        listener=leadership,
    )
    leadership.subscriber = subscriber

    @subscriber
    async def on_events(records: Records) -> None:
        service.on_events([record.value or b"" for record in records])

    return subscriber


def create_api(view: HealthView, readiness: Readiness) -> FastAPI:
    """The HTTP API: the statuses of all providers as they were published last, by any process; the ops endpoints."""
    api = FastAPI(title="Sluice health", docs_url=None, redoc_url=None, redirect_slashes=False)

    @api.get("/v1/health/providers")
    async def providers() -> list[ProviderHealth]:
        return list(view.statuses.values())

    api.router.routes.extend(ops_routes(readiness))
    return api


async def main() -> None:
    """Evaluate the providers' health until the shutdown."""
    settings = load(HealthSettings)
    async with role("health", settings) as process:
        redis = await process.open_redis()
        publisher = await process.open_publisher()
        monitor = HealthMonitor(settings.health_thresholds, settings.health_seed_thresholds)
        service = HealthService(monitor, publisher, redis)
        view = await process.enter(HealthView().subscribed(process.kafka))
        consumer = SubscriberRunner(
            lambda broker: subscribe(broker, service),
            kafka=process.kafka,
            group=Group.HEALTH,
            drain=process.drain_timeout,
        )
        await process.serve(create_api(view, process.readiness))
        await process.run(consumer, loops=[service.publish_loop(), service.snapshot_loop()])
