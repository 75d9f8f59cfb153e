"""The wiring of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from redis.asyncio import Redis

from gateway.asgi import Apis, create_asgi
from gateway.auth.access import Access
from gateway.auth.access_tokens import AccessTokens
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.auth.login_throttle import LocalCounters, LoginThrottle, RedisCounters
from gateway.auth.passwords import Passwords
from gateway.auth.project_access import ProjectAccess
from gateway.auth.sessions import SessionAuthenticator
from gateway.bulk.expander import BulkExpander
from gateway.domains.checker import DomainChecker
from gateway.events.feed import EventFeed
from gateway.events.source import KafkaEventSource
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.ingest.project_quota import QuotaLimits
from gateway.messages.waiting import SettledMessages
from gateway.providers.tester import ProviderTester
from gateway.rate_limits.buckets import TokenBuckets
from gateway.rate_limits.limits import RateLimits
from gateway.receipts.endpoint import ReceiptEndpoint
from gateway.services import Accounts, ProviderAccess, Services
from gateway.settings import GatewaySettings
from gateway.status.monitor import StatusMonitor, SurveyGroups
from gateway.templates.rendering import TemplateRenderer
from gateway.unsubscribe.links import UnsubscribeLinks
from sluice.bootstrap import role
from sluice.bus.consumer import Consumer, Limits
from sluice.bus.group_status import survey_groups
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Group, Topic
from sluice.delivery.mailer import Mailer
from sluice.delivery.outbox import OutboxPublisher
from sluice.health.view import HealthView
from sluice.providers.sms_link import Links, read_links
from sluice.routing.selection import Health
from sluice.runtime.redis_client import create_client
from sluice.runtime.settings import load
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool
from sluice.transports.settings import TransportSettings


class Bus(NamedTuple):
    """What the services need of the bus. ``health``: the newest statuses, live."""

    publisher: Publisher
    health: Health
    events: EventFeed
    survey_groups: SurveyGroups


@asynccontextmanager
async def open_services(
    settings: GatewaySettings, pool: Pool, config: ConfigCache, bus: Bus
) -> AsyncIterator[Services]:
    """The services of one gateway process, running until the block ends."""
    cipher = CredentialCipher(settings.read_encryption_keys)
    providers = _provider_access(settings)
    outbox, templates = OutboxPublisher(pool, bus.publisher), TemplateRenderer(pool, config)
    receipts = _receipt_endpoint(settings, pool, config, outbox, providers.links, cipher)
    unsubscribe_links = UnsubscribeLinks(settings.read_encryption_keys, public_url=settings.public_url)
    domains = DomainChecker(servers=settings.dns_servers, mail_domain=settings.mail_domain)
    ingest = _message_ingest(settings, pool, config, bus.publisher, outbox, templates, unsubscribe_links, domains)
    authenticator = ApiKeyAuthenticator(config, pool, accepts_plain_keys=settings.kafka_plain_api_keys)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(_open_redis(settings.redis_url, settings.redis_login()))
        for service in (authenticator, outbox, templates, ingest, receipts, providers.tester):
            await stack.enter_async_context(service.running())
        accounts = await stack.enter_async_context(open_accounts(settings, pool, config, authenticator, redis))
        bulk = await stack.enter_async_context(BulkExpander(pool, ingest, outbox).running())
        yield Services(
            pool=pool,
            config=config,
            authenticator=authenticator,
            ingest=ingest,
            receipts=receipts,
            outbox=outbox,
            templates=templates,
            unsubscribe_links=unsubscribe_links,
            accounts=accounts,
            providers=providers,
            domains=domains,
            cipher=cipher,
            health=bus.health,
            publisher=bus.publisher,
            status=StatusMonitor(pool, redis, bus.survey_groups),
            outgoing=settings.outgoing(),
            bulk=bulk,
            events=bus.events,
            settled=SettledMessages(pool, redis, limit=settings.send_wait),
            rate_limits=_rate_limits(settings, config, redis),
        )


def _rate_limits(settings: GatewaySettings, config: ConfigCache, redis: Redis | None) -> RateLimits:
    return RateLimits(
        TokenBuckets(redis),
        config,
        per_address=settings.rate_limit_per_address,
        per_organization=settings.rate_limit_per_organization,
    )


def _provider_access(settings: GatewaySettings) -> ProviderAccess:
    return ProviderAccess(
        links=read_links(settings),
        tester=ProviderTester(TransportSettings(outgoing_allow=settings.outgoing_allow)),
        public_url=settings.public_url,
    )


def _receipt_endpoint(
    settings: GatewaySettings,
    pool: Pool,
    config: ConfigCache,
    outbox: OutboxPublisher,
    links: Links,
    cipher: CredentialCipher,
) -> ReceiptEndpoint:
    return ReceiptEndpoint(
        pool,
        config,
        cipher,
        outbox,
        public_url=settings.public_url,
        links=links,
        outgoing=settings.outgoing(),
    )


def _message_ingest(
    settings: GatewaySettings,
    pool: Pool,
    config: ConfigCache,
    publisher: Publisher,
    outbox: OutboxPublisher,
    templates: TemplateRenderer,
    unsubscribe_links: UnsubscribeLinks,
    domains: DomainChecker,
) -> MessageIngest:
    return MessageIngest(
        pool,
        config,
        publisher,
        outbox=outbox,
        templates=templates,
        unsubscribe_links=unsubscribe_links,
        domains=domains,
        requeue_after=timedelta(seconds=settings.requeue_after),
        max_pending=settings.max_pending_writes,
        dispatch_queue_limit=settings.dispatch_queue_limit,
        project_limits=QuotaLimits(
            settings.project_messages_per_day, settings.project_urgent_share, settings.project_attachment_bytes
        ),
    )


@asynccontextmanager
async def open_accounts(
    settings: GatewaySettings,
    pool: Pool,
    config: ConfigCache,
    authenticator: ApiKeyAuthenticator,
    redis: Redis | None,
) -> AsyncIterator[Accounts]:
    """What people need to log in, running until the block ends."""
    async with AsyncExitStack() as stack:
        counters: LocalCounters | RedisCounters = LocalCounters(settings.login_window)
        if redis is not None:
            counters = RedisCounters(redis, settings.login_window)
        sessions = SessionAuthenticator(config, pool)
        access_tokens = AccessTokens(settings.read_encryption_keys)
        passwords, mailer = Passwords(), Mailer(settings.mail_server, settings.mail_sender)
        for service in (sessions, passwords, mailer):
            await stack.enter_async_context(service.running())
        yield Accounts(
            access=Access(
                authenticator, sessions, pool, public_url=settings.public_url, proxies=settings.client_proxies
            ),
            project_access=ProjectAccess(authenticator, sessions, access_tokens),
            access_tokens=access_tokens,
            sessions=sessions,
            passwords=passwords,
            throttle=LoginThrottle(
                counters,
                per_account=settings.login_attempts_per_account,
                per_address=settings.login_attempts_per_address,
            ),
            mailer=mailer,
            dashboard_url=(settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/"),
            sign_up_is_open=settings.sign_up,
        )


def _open_redis(url: str | None, password: str | None = None) -> Redis | nullcontext[None]:
    """A client that gives up at once: its own retries would make requests wait for seconds while Redis is away."""
    if not url:
        return nullcontext()
    return create_client(url, password=password, timeout=0.1)


async def main() -> None:
    """Run the gateway until the shutdown."""
    settings = load(GatewaySettings)
    async with role("gateway", settings) as gateway:
        pool, config = await gateway.open_pool(), await gateway.open_config()
        publisher = await gateway.open_publisher()
        health = await gateway.enter(HealthView().subscribed(gateway.kafka))
        events = EventFeed(KafkaEventSource(gateway.kafka))
        bus = Bus(publisher, health.statuses, events, partial(survey_groups, gateway.kafka))
        services = await gateway.enter(open_services(settings, pool, config, bus))
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
        apis = Apis(services)
        await apis.prepare()
        app = create_asgi(services, apis, max_request_bytes=settings.max_request_bytes)
        await gateway.serve_ops(settings.ops_port)  # the last to close: it answers while requests are finished
        await gateway.serve(app, grace=10.0)
        # The streams and the waiting requests end when the shutdown begins.
        await gateway.run(consumer, loops=[events.run(), services.settled.run()])
