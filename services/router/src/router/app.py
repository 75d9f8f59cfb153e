"""The router's wiring."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from router.handler import Routing
from router.recovery import Recovery, RecoverySettings
from sluice.bus.consumer import Consumer
from sluice.bus.publisher import open_publisher
from sluice.bus.topic_admin import Conveyor
from sluice.bus.topics import Group, Topic
from sluice.delivery.settlement import Settler
from sluice.health.view import HealthView
from sluice.runtime.http_server import serving, set_up_logs, side_app, stop_event
from sluice.runtime.settings import load
from sluice.runtime.tasks import end
from sluice.store.config_cache import Configuration
from sluice.store.db import open_pool


async def main() -> None:
    """Route and recover until asked to stop."""
    settings = load(RecoverySettings)
    set_up_logs(settings.log_level, "router")
    stopped = stop_event(settings.stop_grace)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings.postgres, size=settings.pool_size, name="router"))
        configuration = await stack.enter_async_context(Configuration().following(settings.postgres))
        view = await stack.enter_async_context(HealthView().following(settings.kafka))
        publisher = await stack.enter_async_context(open_publisher(settings.kafka, name="router"))
        settler = await stack.enter_async_context(Settler(pool, publisher).running())
        routing = Routing(
            configuration=configuration,
            health=view.verdicts,
            publisher=publisher,
            settler=settler,
            timing=settings,
        )
        recovery = Recovery(
            pool=pool,
            configuration=configuration,
            publisher=publisher,
            settler=settler,
            conveyor=Conveyor(settings.kafka),
            settings=settings,
        )
        consumer = Consumer(
            [Topic.ACCEPTED, Topic.REROUTE],
            routing.take,
            servers=settings.kafka,
            group=Group.ROUTER,
            drain=settings.stop_grace - 5,
        )
        await stack.enter_async_context(serving(side_app(consumer.readiness), settings))
        looking = asyncio.create_task(recovery.run(), name="recovery")
        consuming = asyncio.create_task(consumer.run(), name="consumer")
        await asyncio.wait(
            [consuming, looking, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        consumer.stop()
        await end(looking)
        await consuming
        await routing.drained()
