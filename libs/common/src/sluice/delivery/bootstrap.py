"""The wiring of a worker; the services differ in name, consumer group and channels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from sluice.bus.consumer import Consumer, Limits
from sluice.bus.publisher import open_publisher
from sluice.bus.topics import Group, delivery_topic
from sluice.delivery.sandbox import SandboxTransport
from sluice.delivery.settings import WorkerSettings
from sluice.delivery.settlement import SettlementWriter
from sluice.delivery.worker import Worker
from sluice.model.message import Channel
from sluice.providers.contract import TransportKind
from sluice.runtime import metrics
from sluice.runtime.http_server import configure_logging, ops_app, serve_http, shutdown_event
from sluice.runtime.settings import load
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import open_pool
from sluice.transports.http import open_http
from sluice.transports.smtp import open_smtp


async def run_worker(name: str, group: Group, channels: Sequence[Channel]) -> None:
    """Deliver the messages of ``channels`` until shutdown is requested."""
    settings = load(WorkerSettings)
    configure_logging(settings.log_level, name)
    cipher = CredentialCipher(settings.read_encryption_key())
    stopped = shutdown_event(settings.shutdown_timeout)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings.postgres_dsn, size=settings.postgres_pool_size, name=name)
        )
        config = await stack.enter_async_context(ConfigCache().subscribed(settings.postgres_dsn))
        publisher = await stack.enter_async_context(open_publisher(settings.kafka_bootstrap_servers, name=name))
        settlements = await stack.enter_async_context(SettlementWriter(pool, publisher).running())
        worker = await stack.enter_async_context(
            Worker(
                db=pool,
                config=config,
                cipher=cipher,
                transports={
                    # The bulkheads bound the calls; with a second limit, calls would wait while their deadline runs.
                    TransportKind.HTTP: await stack.enter_async_context(open_http(connections_per_origin=0)),
                    TransportKind.SMTP: await stack.enter_async_context(open_smtp()),
                    TransportKind.SANDBOX: SandboxTransport(pool),
                },
                publisher=publisher,
                settlements=settlements,
                policy=settings,
            ).running()
        )
        consumer = Consumer(
            [delivery_topic(channel) for channel in channels],
            worker.handle_batch,
            servers=settings.kafka_bootstrap_servers,
            group=group,
            limits=Limits(in_flight=settings.prefetch, window=settings.prefetch),
            drain=settings.shutdown_timeout - 5,
        )
        metrics.IN_FLIGHT.set_function(lambda: consumer.in_flight)
        await stack.enter_async_context(serve_http(ops_app(consumer.readiness), settings))
        consuming = asyncio.create_task(consumer.run(), name="consumer")
        await asyncio.wait([consuming, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        consumer.stop()
        await consuming
