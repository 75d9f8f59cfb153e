"""The wiring of the router."""

from __future__ import annotations

from router.expiry import ExpirySettings, run_expiry
from router.handler import RoutingHandler
from router.recovery import Recovery, RecoverySettings
from sluice.bootstrap import role
from sluice.bus.consumer import Consumer
from sluice.bus.lag import LagMonitor
from sluice.bus.progress import QueueProgress
from sluice.bus.topics import Group, Topic
from sluice.delivery.settled_notices import SettledNotices
from sluice.delivery.settlement import SettlementWriter
from sluice.health.view import HealthView
from sluice.runtime.http_server import ops_app
from sluice.runtime.settings import load


class RouterSettings(RecoverySettings, ExpirySettings):
    """Settings of the router."""


async def main() -> None:
    """Route and recover until the shutdown."""
    settings = load(RouterSettings)
    async with role("router", settings) as router:
        pool = await router.open_pool()
        config = await router.open_config()
        view = await router.enter(HealthView().subscribed(router.kafka))
        publisher = await router.open_publisher()
        notices = SettledNotices(await router.open_redis())
        settlements = await router.enter(SettlementWriter(pool, publisher, notices=notices).running())
        routing = RoutingHandler(
            config=config, health=view.statuses, publisher=publisher, settlements=settlements, policy=settings
        )
        recovery = Recovery(
            pool=pool,
            config=config,
            publisher=publisher,
            settlements=settlements,
            progress=QueueProgress(router.kafka),
            settings=settings,
            health=view.statuses,
        )
        consumer = Consumer(
            [Topic.ACCEPTED, Topic.REROUTE],
            routing.handle_batch,
            kafka=router.kafka,
            group=Group.ROUTER,
            drain=router.drain_timeout,
        )
        await router.serve(ops_app(router.readiness))
        await router.run(consumer, loops=[recovery.run(), run_expiry(pool, settings), LagMonitor(router.kafka).run()])
        await routing.join()
