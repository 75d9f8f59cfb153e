"""The wiring of a worker: the three services differ only in what they pass here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from sluice.bus.consumer import Consumer, Limits
from sluice.bus.publisher import open_publisher
from sluice.bus.topics import Group, deliveries
from sluice.delivery.sandbox import SandboxOutbox
from sluice.delivery.settlement import Settler
from sluice.delivery.worker import Worker, WorkerSettings
from sluice.model.message import Channel
from sluice.providers.contract import Wire
from sluice.runtime.http_server import serving, set_up_logs, side_app, stop_event
from sluice.runtime.settings import load
from sluice.store.cipher import Vault
from sluice.store.config_cache import Configuration
from sluice.store.db import open_pool
from sluice.transports.http import open_http
from sluice.transports.smtp import open_smtp


async def run_worker(name: str, group: Group, channels: Sequence[Channel]) -> None:
    """Carry the deliveries of ``channels`` until asked to stop."""
    settings = load(WorkerSettings)
    set_up_logs(settings.log_level, name)
    vault = Vault(settings.credentials_key())
    stopped = stop_event(settings.stop_grace)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings.postgres, size=settings.pool_size, name=name))
        configuration = await stack.enter_async_context(Configuration().following(settings.postgres))
        publisher = await stack.enter_async_context(open_publisher(settings.kafka, name=name))
        settler = await stack.enter_async_context(Settler(pool, publisher).running())
        worker = await stack.enter_async_context(
            Worker(
                db=pool,
                configuration=configuration,
                vault=vault,
                wires={
                    # The lanes bound the calls; a second bound would make them wait on their deadline.
                    Wire.HTTP: await stack.enter_async_context(open_http(connections_per_origin=0)),
                    Wire.SMTP: await stack.enter_async_context(open_smtp()),
                    Wire.SANDBOX: SandboxOutbox(pool),
                },
                publisher=publisher,
                settler=settler,
                settings=settings,
            ).running()
        )
        consumer = Consumer(
            [deliveries(channel) for channel in channels],
            worker.take,
            servers=settings.kafka,
            group=group,
            limits=Limits(in_flight=settings.look_ahead, window=settings.look_ahead),
            drain=settings.stop_grace - 5,
        )
        await stack.enter_async_context(serving(side_app(consumer.readiness), settings))
        consuming = asyncio.create_task(consumer.run(), name="consumer")
        await asyncio.wait([consuming, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        consumer.stop()
        await consuming
