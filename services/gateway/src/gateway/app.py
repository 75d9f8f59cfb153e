"""The wiring of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from gateway.asgi import create_asgi
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.receipts.endpoint import ReceiptEndpoint
from gateway.services import Services
from gateway.settings import GatewaySettings
from sluice.bus.consumer import Consumer, Limits
from sluice.bus.publisher import Publisher, open_publisher
from sluice.bus.topics import Group, Topic
from sluice.delivery.outbox import OutboxPublisher
from sluice.runtime.http_server import configure_logging, serve_http, shutdown_event
from sluice.runtime.settings import load
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool, open_pool


@asynccontextmanager
async def open_services(
    settings: GatewaySettings, pool: Pool, config: ConfigCache, publisher: Publisher
) -> AsyncIterator[Services]:
    """The services of one gateway process, running until the block ends."""
    cipher = CredentialCipher(settings.read_encryption_key())
    outbox = OutboxPublisher(pool, publisher)
    receipts = ReceiptEndpoint(pool, config, cipher, outbox, public_url=settings.public_url)
    ingest = MessageIngest(
        pool,
        config,
        publisher,
        requeue_after=timedelta(seconds=settings.requeue_after),
        max_pending=settings.max_pending_writes,
        dispatch_queue_limit=settings.dispatch_queue_limit,
    )
    async with ingest.running(), outbox.running(), receipts.running():
        yield Services(pool, config, ApiKeyAuthenticator(config, pool), ingest, receipts, outbox)


async def main() -> None:
    """Run the gateway until it is asked to stop."""
    settings = load(GatewaySettings)
    configure_logging(settings.log_level, "gateway")
    stopped = shutdown_event(settings.shutdown_timeout)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings.postgres_dsn, size=settings.postgres_pool_size, name="gateway")
        )
        config = await stack.enter_async_context(ConfigCache().subscribed(settings.postgres_dsn))
        publisher = await stack.enter_async_context(open_publisher(settings.kafka_bootstrap_servers, name="gateway"))
        services = await stack.enter_async_context(open_services(settings, pool, config, publisher))
        ingress = SendRequestConsumer(
            services.authenticator, services.ingest, publisher, max_body=settings.max_request_bytes
        )
        consumer = Consumer(
            [Topic.SEND_REQUESTS],
            ingress.handle_batch,
            servers=settings.kafka_bootstrap_servers,
            group=Group.INGEST,
            limits=Limits(in_flight=1000, window=500),
            drain=settings.shutdown_timeout - 5,
        )
        app = create_asgi(
            services,
            max_request_bytes=settings.max_request_bytes,
            ready=lambda: "stopping" if stopped.is_set() else None,
        )
        await stack.enter_async_context(serve_http(app, settings, grace=10.0))
        consuming = asyncio.create_task(consumer.run(), name="ingress")
        await asyncio.wait([consuming, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        consumer.stop()
        await consuming
