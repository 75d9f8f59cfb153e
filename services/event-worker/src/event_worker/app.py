"""The wiring of the event-worker: FastStream consumes ``delivery.events``, ``dead.letters`` and ``provider.health``,
and the webhook sender sends what is due."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from event_worker.dead_letters import DeadLetterProjection
from event_worker.incidents import Incidents
from event_worker.projections import projections_of
from event_worker.service import EventService
from event_worker.settings import EventWorkerSettings
from event_worker.silence import SilenceMonitor
from event_worker.webhooks.disabling import EndpointDisabler
from event_worker.webhooks.sender import WebhookSender
from sluice.bootstrap import role
from sluice.bus.subscriber import Records, SubscriberRunner, subscribe_to_batches
from sluice.bus.topics import Group, Topic
from sluice.delivery.mailer import Mailer
from sluice.runtime.http_server import ops_app
from sluice.runtime.settings import load
from sluice.store.cipher import CredentialCipher
from sluice.store.db import Pool
from sluice.transports.http import open_http

_FETCH_WAIT_MS = 500  # delays no message: consequences of events are not on the path of a delivery
_EVENTS_MIN_BYTES = 1 << 18  # of events, a batch for each transaction; the other topics have few records
_MAX_RECORDS = 2000  # one batch, and so one commit


Handle = Callable[[Records], Awaitable[None]]
"""Consumes a batch of records; one that raises is consumed again."""


def subscribe(
    broker: KafkaBroker, topic: Topic, group: Group, handle: Handle, *, fetch_min_bytes: int
) -> BatchSubscriber:
    """A subscriber of ``topic`` in batches."""
    subscriber = subscribe_to_batches(
        broker,
        topic.value,
        group=group.value,
        max_records=_MAX_RECORDS,
        fetch_min_bytes=fetch_min_bytes,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        # Commit after the handler; if it failed, rewind to the beginning of the batch. No event may be skipped, and
        # everything that the handler does may be repeated. The rewind is immediate, so the handler pauses before it
        # raises.
        ack_policy=AckPolicy.NACK_ON_ERROR,
        auto_offset_reset="earliest",
    )

    @subscriber
    async def on_records(records: Records) -> None:
        await handle(records)

    return subscriber


@asynccontextmanager
async def open_webhooks(settings: EventWorkerSettings, pool: Pool) -> AsyncIterator[WebhookSender]:
    """The webhook sender of one process, until the block ends."""
    cipher = CredentialCipher(settings.read_encryption_keys)
    # The sender bounds the calls itself. Endpoints may share an origin, and one must not wait for another's connection.
    http = open_http(outgoing=settings.outgoing(), connections_per_origin=0)
    async with http as transport, Mailer(settings.mail_server, settings.mail_sender).running() as mailer:
        disabler = EndpointDisabler(pool, mailer, failing_for=timedelta(seconds=settings.webhook_disable_after))
        async with WebhookSender(pool, cipher, transport, disabler, settings).running() as sender:
            yield sender


async def main() -> None:
    """Consume events, dead letters and statuses, and send webhooks until the shutdown."""
    settings = load(EventWorkerSettings)
    async with role("event-worker", settings) as process:
        pool = await process.open_pool()
        sender = await process.enter(open_webhooks(settings, pool))
        incidents = Incidents(pool, on_notice=sender.wake)
        service = EventService(await process.open_publisher(), projections_of(pool, sender, incidents))

        def runner(topic: Topic, group: Group, handle: Handle, *, fetch_min_bytes: int = 1) -> SubscriberRunner:
            return SubscriberRunner(
                lambda broker: subscribe(broker, topic, group, handle, fetch_min_bytes=fetch_min_bytes),
                kafka=process.kafka,
                group=group,
                drain=process.drain_timeout,
            )

        letters = runner(Topic.DEAD_LETTERS, Group.DEAD_LETTERS, DeadLetterProjection(pool).on_letters)
        statuses = runner(Topic.HEALTH, Group.INCIDENTS, incidents.on_health)
        consumer = runner(Topic.EVENTS, Group.EVENT_WORKER, service.on_events, fetch_min_bytes=_EVENTS_MIN_BYTES)
        await process.serve(ops_app(process.readiness))
        silence = SilenceMonitor(pool, settings)
        loops = [sender.run(), sender.measure(), silence.run(), incidents.run()]
        await process.run(consumer, letters, statuses, loops=loops)
