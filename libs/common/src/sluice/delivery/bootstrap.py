"""The wiring of a worker: the services differ only in what they pass here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sluice.bootstrap import role
from sluice.bus.consumer import Consumer, Limits
from sluice.bus.topics import Group, delivery_topic
from sluice.delivery.settings import WorkerSettings
from sluice.delivery.settlement import SettlementWriter
from sluice.delivery.smpp_link import open_smpp_link
from sluice.delivery.worker import Worker
from sluice.model.message import Channel
from sluice.providers.contract import TransportKind
from sluice.providers.sms_link import read_links
from sluice.runtime.http_server import ops_app
from sluice.runtime.settings import load
from sluice.store import sandbox
from sluice.store.cipher import CredentialCipher
from sluice.transports.opening import open_transports


async def run_worker(name: str, group: Group, channels: Sequence[Channel]) -> None:
    """Deliver the assignments of ``channels`` until the shutdown."""
    settings = load(WorkerSettings)
    cipher = CredentialCipher(settings.read_encryption_keys)
    async with role(name, settings) as process:
        pool = await process.open_pool()
        config = await process.open_config()
        publisher = await process.open_publisher()
        settlements = await process.enter(SettlementWriter(pool, publisher).running())
        # The bulkheads bound the calls; a second bound would make calls wait after their deadline began.
        transports = await process.enter(
            open_transports(capture=partial(sandbox.capture, pool), connections_per_origin=0, limits=settings)
        )
        links = read_links(settings) if Channel.SMS in channels else {}
        link = None
        if any(linked.package.transport is TransportKind.SMPP for linked in links.values()):
            link = await process.enter(open_smpp_link(settings, settings.postgres_dsn, pool, publisher))
            transports = {**transports, TransportKind.SMPP: link.transport}
        worker = Worker(
            db=pool,
            config=config,
            cipher=cipher,
            transports=transports,
            publisher=publisher,
            settlements=settlements,
            policy=settings,
            links=links,
            elsewhere=lambda package: link is not None and package in links and not link.ready,
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
