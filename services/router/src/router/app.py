"""The wiring of the router."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from router.handler import RoutingHandler
from router.recovery import Recovery, RecoverySettings
from sluice.bus.consumer import Consumer
from sluice.bus.publisher import open_publisher
from sluice.bus.topic_admin import QueueProgress
from sluice.bus.topics import Group, Topic
from sluice.delivery.settlement import SettlementWriter
from sluice.health.view import HealthView
from sluice.runtime import metrics
from sluice.runtime.http_server import configure_logging, ops_app, serve_http, shutdown_event
from sluice.runtime.settings import load
from sluice.runtime.tasks import cancel_and_wait
from sluice.store.config_cache import ConfigCache
from sluice.store.db import open_pool


async def main() -> None:
    """Route deliveries and run the recovery loop until shutdown is requested."""
    settings = load(RecoverySettings)
    configure_logging(settings.log_level, "router")
    stopped = shutdown_event(settings.shutdown_timeout)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings.postgres_dsn, size=settings.postgres_pool_size, name="router")
        )
        config = await stack.enter_async_context(ConfigCache().subscribed(settings.postgres_dsn))
        view = await stack.enter_async_context(HealthView().subscribed(settings.kafka_bootstrap_servers))
        publisher = await stack.enter_async_context(open_publisher(settings.kafka_bootstrap_servers, name="router"))
        settlements = await stack.enter_async_context(SettlementWriter(pool, publisher).running())
        routing = RoutingHandler(
            config=config,
            health=view.statuses,
            publisher=publisher,
            settlements=settlements,
            policy=settings,
        )
        recovery = Recovery(
            pool=pool,
            config=config,
            publisher=publisher,
            settlements=settlements,
            progress=QueueProgress(settings.kafka_bootstrap_servers),
            settings=settings,
        )
        consumer = Consumer(
            [Topic.ACCEPTED, Topic.REROUTE],
            routing.handle_batch,
            servers=settings.kafka_bootstrap_servers,
            group=Group.ROUTER,
            drain=settings.shutdown_timeout - 5,
        )
        metrics.IN_FLIGHT.set_function(lambda: consumer.in_flight)
        await stack.enter_async_context(serve_http(ops_app(consumer.readiness), settings))
        recovering = asyncio.create_task(recovery.run(), name="recovery")
        consuming = asyncio.create_task(consumer.run(), name="consumer")
        await asyncio.wait(
            [consuming, recovering, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        consumer.stop()
        await cancel_and_wait(recovering)
        await consuming
        await routing.join()
