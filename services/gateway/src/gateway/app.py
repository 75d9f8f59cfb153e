"""The wiring of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.asgi import create_asgi
from gateway.auth.access import Access
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.auth.login_throttle import LocalCounters, LoginThrottle, RedisCounters
from gateway.auth.mailer import Mailer
from gateway.auth.passwords import Passwords
from gateway.auth.sessions import SessionAuthenticator
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.ingest.project_quota import QuotaLimits
from gateway.receipts.endpoint import ReceiptEndpoint
from gateway.services import Accounts, Services
from gateway.settings import GatewaySettings
from sluice.bootstrap import role
from sluice.bus.consumer import Consumer, Limits
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Group, Topic
from sluice.delivery.outbox import OutboxPublisher
from sluice.health.view import HealthView
from sluice.providers.sms_link import read_links
from sluice.routing.selection import Health
from sluice.runtime.settings import load
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool


@asynccontextmanager
async def open_services(
    settings: GatewaySettings, pool: Pool, config: ConfigCache, publisher: Publisher, health: Health
) -> AsyncIterator[Services]:
    """The services of one gateway process, running until the block ends."""
    cipher = CredentialCipher(settings.read_encryption_keys)
    outbox = OutboxPublisher(pool, publisher)
    receipts = ReceiptEndpoint(pool, config, cipher, outbox, public_url=settings.public_url, links=read_links(settings))
    ingest = MessageIngest(
        pool,
        config,
        publisher,
        requeue_after=timedelta(seconds=settings.requeue_after),
        max_pending=settings.max_pending_writes,
        dispatch_queue_limit=settings.dispatch_queue_limit,
        project_limits=QuotaLimits(
            settings.project_messages_per_day, settings.project_urgent_share, settings.project_attachment_bytes
        ),
    )
    authenticator = ApiKeyAuthenticator(config, pool, accepts_plain_keys=settings.kafka_plain_api_keys)
    accounts_open = open_accounts(settings, pool, config, authenticator)
    async with (
        authenticator.running(),
        ingest.running(),
        outbox.running(),
        receipts.running(),
        accounts_open as accounts,
    ):
        yield Services(pool, config, authenticator, ingest, receipts, outbox, accounts, health)


@asynccontextmanager
async def open_accounts(
    settings: GatewaySettings, pool: Pool, config: ConfigCache, authenticator: ApiKeyAuthenticator
) -> AsyncIterator[Accounts]:
    """What people need to log in, running until the block ends."""
    async with AsyncExitStack() as stack:
        counters: LocalCounters | RedisCounters = LocalCounters(settings.login_window)
        if settings.redis_url:
            redis = await stack.enter_async_context(_open_redis(settings.redis_url))
            counters = RedisCounters(redis, settings.login_window)
        sessions = SessionAuthenticator(config, pool)
        passwords, mailer = Passwords(), Mailer(settings.mail_server, settings.mail_sender)
        for service in (sessions, passwords, mailer):
            await stack.enter_async_context(service.running())
        yield Accounts(
            access=Access(
                authenticator, sessions, pool, public_url=settings.public_url, proxies=settings.client_proxies
            ),
            sessions=sessions,
            passwords=passwords,
            throttle=LoginThrottle(
                counters,
                per_account=settings.login_attempts_per_account,
                per_address=settings.login_attempts_per_address,
            ),
            mailer=mailer,
            dashboard_url=(settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/"),
        )


def _open_redis(url: str) -> Redis:
    """A client that gives up at once: its own retries would make each login wait for seconds while Redis is away."""
    return Redis.from_url(url, socket_timeout=0.1, socket_connect_timeout=0.1, retry=Retry(NoBackoff(), 0))


async def main() -> None:
    """Run the gateway until the shutdown."""
    settings = load(GatewaySettings)
    async with role("gateway", settings) as gateway:
        pool, config = await gateway.open_pool(), await gateway.open_config()
        publisher = await gateway.open_publisher()
        health = await gateway.enter(HealthView().subscribed(gateway.kafka))
        services = await gateway.enter(open_services(settings, pool, config, publisher, health.statuses))
        ingress = SendRequestConsumer(
            services.authenticator, services.ingest, publisher, max_body=settings.max_request_bytes
        )
        consumer = Consumer(
            [Topic.SEND_REQUESTS],
            ingress.handle_batch,
            kafka=gateway.kafka,
            group=Group.INGEST,
            limits=Limits(in_flight=1000, window=500),
            drain=gateway.drain_timeout,
        )
        app = create_asgi(services, max_request_bytes=settings.max_request_bytes)
        await gateway.serve_ops(settings.ops_port)  # the last to close: it answers while requests are finished
        await gateway.serve(app, grace=10.0)
        await gateway.run(consumer)
