"""The wiring of a worker: the services differ only in what they pass here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sluice.bootstrap import Role, role
from sluice.bus.consumer import Consumer, Limits
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Group, delivery_topic
from sluice.delivery.sandbox_receipts import open_sandbox_receipts
from sluice.delivery.settings import WorkerSettings
from sluice.delivery.settled_notices import SettledNotices
from sluice.delivery.settlement import SettlementWriter
from sluice.delivery.smpp_link import SmppLink, open_smpp_link
from sluice.delivery.worker import Worker
from sluice.health.view import HealthView
from sluice.model.message import Channel
from sluice.providers.contract import TransportKind
from sluice.providers.sms_link import Links, read_links
from sluice.runtime.http_server import ops_app
from sluice.runtime.settings import load
from sluice.store import sandbox
from sluice.store.cipher import CredentialCipher
from sluice.store.db import Pool
from sluice.transports.opening import open_transports
from sluice.transports.provider_call import Transports


async def run_worker(name: str, group: Group, channels: Sequence[Channel]) -> None:
    """Deliver the assignments of ``channels`` until the shutdown."""
    settings = load(WorkerSettings)
    cipher = CredentialCipher(settings.read_encryption_keys)
    async with role(name, settings) as process:
        pool = await process.open_pool()
        config = await process.open_config()
        publisher = await process.open_publisher()
        view = await process.enter(HealthView().subscribed(process.kafka))
        redis = await process.open_redis()
        notices = SettledNotices(redis)
        settlements = await process.enter(SettlementWriter(pool, publisher, notices=notices).running())
        await process.enter(open_sandbox_receipts(pool, publisher))
        links = read_links(settings) if Channel.SMS in channels else {}
        link = await _open_link(process, settings, links, pool, publisher)
        transports = await _open_transports(process, settings, pool, link)
        worker = Worker(
            db=pool,
            config=config,
            cipher=cipher,
            transports=transports,
            publisher=publisher,
            settlements=settlements,
            policy=settings,
            health=view.statuses,
            links=links,
            elsewhere=lambda package: link is not None and package in links and not link.ready,
            redis=redis,
        )
        await process.enter(worker.running(process.drain_left))
        consumer = Consumer(
            [delivery_topic(channel) for channel in channels],
            worker.handle_batch,
            kafka=process.kafka,
            group=group,
            limits=Limits(in_flight=settings.prefetch, window=settings.prefetch),
            drain=process.drain_timeout,
        )
        await process.serve(ops_app(process.readiness))
        await process.run(consumer)


async def _open_link(
    process: Role, settings: WorkerSettings, links: Links, pool: Pool, publisher: Publisher
) -> SmppLink | None:
    """The installation's SMPP link, if it has one that this worker uses."""
    if all(linked.package.transport is not TransportKind.SMPP for linked in links.values()):
        return None
    return await process.enter(open_smpp_link(settings, settings.postgres_dsn, pool, publisher))


async def _open_transports(process: Role, settings: WorkerSettings, pool: Pool, link: SmppLink | None) -> Transports:
    # The bulkheads bound the calls; a second bound would make calls wait after their deadline began.
    transports = await process.enter(
        open_transports(capture=partial(sandbox.capture, pool), connections_per_origin=0, limits=settings)
    )
    return transports if link is None else {**transports, TransportKind.SMPP: link.transport}
