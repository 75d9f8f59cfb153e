"""The health service's wiring: FastStream reads the events, FastAPI shows the verdicts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from fastapi import FastAPI
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from pydantic import Field, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.typing import FieldT

from health.monitor import HealthMonitor
from sluice.bus.messages import AttemptReport, ProviderHealth
from sluice.bus.publisher import Publisher, open_publisher
from sluice.bus.topics import Group, Topic
from sluice.health.breaker import Thresholds
from sluice.runtime import failpoints
from sluice.runtime.clock import utc_now
from sluice.runtime.http_server import configure_logging, ops_routes, serve_http, shutdown_event
from sluice.runtime.settings import Settings, load
from sluice.runtime.tasks import cancel_and_wait, supervised

log = structlog.get_logger()

# Events come a batch at a time, and after each the news are told: this is how late a verdict may be, and as rarely as
# that pays. A fetch costs the same with one record as with a thousand.
_FETCH_WAIT_MS = 200
_FETCH_MIN_BYTES = 1 << 20  # more than comes in that time, so that the time decides
_MAX_RECORDS = 5000  # so many are counted without a pause

_EVALUATION_INTERVAL = 1.0  # seconds; for what changes by time alone
_SNAPSHOT_INTERVAL = 2.0  # seconds
_SNAPSHOT_BATCH = 500  # providers in one of them; the rest is for the next
_SNAPSHOT_TTL = 3600  # seconds
_SNAPSHOT_KEY = "sluice:health:providers"  # a hash: what is known of each, by its id


class HealthSettings(Settings):
    """Settings of the health service."""

    health_thresholds: Thresholds = Field(
        default_factory=lambda: Thresholds(), description="JSON; see sluice.health.breaker"
    )


class HealthService:
    """Reads ``delivery.events``, tells ``provider.health``."""

    def __init__(self, monitor: HealthMonitor, publisher: Publisher, redis: Redis | None) -> None:
        self._monitor = monitor
        self._publisher = publisher
        self._redis = redis
        self.reading = False

    async def on_events(self, bodies: list[bytes]) -> None:
        """A batch of raw events. It never raises: what cannot be read is no evidence."""
        assert failpoints.hit("health.received")
        self._monitor.record_attempts((event for body in bodies if (event := _parse(body)) is not None), utc_now())
        self._publish_changes()

    async def publish_loop(self) -> None:
        """Publish what time has changed, for ever."""
        while True:
            self._publish_changes()
            await asyncio.sleep(_EVALUATION_INTERVAL)

    def _publish_changes(self) -> None:
        for verdict in self._monitor.changed_statuses(utc_now()):
            assert failpoints.hit("health.before_publish")
            self._publisher.publish(Topic.HEALTH, verdict.provider_id.bytes, verdict.encode())
            assert failpoints.hit("health.published")

    async def snapshot_loop(self) -> None:
        """Keep what is known where the next process finds it; without Redis it starts from nothing."""
        while self._redis is not None:
            await asyncio.sleep(_SNAPSHOT_INTERVAL)
            assert failpoints.hit("health.before_snapshot")
            await self.snapshot(self._redis)

    async def snapshot(self, redis: Redis) -> None:
        """Keep what changed; all of it if Redis lost what it had, and once more what it did not take."""
        changes = self._monitor.pending_snapshots(_SNAPSHOT_BATCH)
        known: dict[FieldT, bytes] = {
            str(provider_id): value for provider_id, value in changes.items() if value is not None
        }
        forgotten = [str(provider_id) for provider_id, value in changes.items() if value is None]
        pipeline = redis.pipeline(transaction=False)
        pipeline.expire(_SNAPSHOT_KEY, _SNAPSHOT_TTL)
        if known:
            pipeline.hset(_SNAPSHOT_KEY, mapping=known)
        if forgotten:
            pipeline.hdel(_SNAPSHOT_KEY, *forgotten)
        try:
            was_there, *_ = await pipeline.execute()
        except (RedisError, OSError, TimeoutError):
            self._monitor.restore_pending(changes)
            return
        if not was_there:
            self._monitor.mark_all_dirty()

    async def restore(self) -> None:
        """Take up the last snapshot, if there is one."""
        if self._redis is None:
            return
        try:
            kept = {key: value async for key, value in self._redis.hscan_iter(_SNAPSHOT_KEY, count=100)}
            unreadable = self._monitor.restore(kept, utc_now())
            if unreadable:
                log.warning("snapshot_unreadable", providers=len(unreadable))
                await self._redis.hdel(_SNAPSHOT_KEY, *unreadable)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("snapshot_unavailable", error=type(error).__name__)

    def statuses(self) -> list[ProviderHealth]:
        """Every provider's verdict now."""
        return self._monitor.statuses(utc_now())


def _parse(body: bytes) -> AttemptReport | None:
    try:
        return AttemptReport.model_validate_json(body)
    except ValidationError:
        return None  # a refused request, or a channel of a newer version


def create_api(service: HealthService) -> FastAPI:
    """The HTTP view."""
    api = FastAPI(title="Sluice health", docs_url=None, redoc_url=None)

    @api.get("/v1/health/providers")
    async def providers() -> list[ProviderHealth]:
        return service.statuses()

    api.router.routes.extend(ops_routes(lambda: None if service.reading else "not reading events yet"))
    return api


def create_broker(servers: str) -> KafkaBroker:
    """The broker that reads events: raw bodies, a batch at a time; no topic is created by it."""

    async def raw(message: KafkaMessage) -> Any:
        return message.body

    return KafkaBroker(
        servers,
        client_id="sluice-health",
        allow_auto_create_topics=False,
        metadata_max_age_ms=3_000,  # the topic may be made only after the first look
        decoder=raw,
        logger=None,
        apply_types=False,
    )


async def main() -> None:
    """Watch until asked to stop."""
    settings = load(HealthSettings)
    configure_logging(settings.log_level, "health")
    stopped = shutdown_event(settings.shutdown_timeout)
    async with AsyncExitStack() as stack:
        redis = (
            Redis.from_url(settings.redis_url, socket_timeout=1.0, socket_connect_timeout=1.0)
            if settings.redis_url
            else None
        )
        if redis is not None:
            stack.push_async_callback(redis.aclose)
        publisher = await stack.enter_async_context(open_publisher(settings.kafka_bootstrap_servers, name="health"))
        service = HealthService(HealthMonitor(settings.health_thresholds), publisher, redis)
        await service.restore()
        broker = create_broker(settings.kafka_bootstrap_servers)
        # ACK commits after the handler; on_events raises nothing, so nothing is skipped by an error.
        subscriber = broker.subscriber(
            Topic.EVENTS.value,
            group_id=Group.HEALTH.value,
            batch=True,
            max_records=_MAX_RECORDS,
            batch_timeout_ms=100,
            fetch_min_bytes=_FETCH_MIN_BYTES,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            ack_policy=AckPolicy.ACK,
            auto_offset_reset="latest",
        )
        subscriber(service.on_events)
        await stack.enter_async_context(serve_http(create_api(service), settings))
        await _start(broker)
        stack.push_async_callback(broker.stop)
        service.reading = True
        loops = [
            supervised(service.publish_loop(), name="keep-telling"),
            supervised(service.snapshot_loop(), name="keep-snapshots"),
        ]
        await stopped.wait()
        service.reading = False
        await cancel_and_wait(*loops)


async def _start(broker: KafkaBroker) -> None:
    while True:
        try:
            await broker.start()
            return
        except (KafkaError, OSError) as error:
            log.warning("kafka_unreachable", error=type(error).__name__)
            await asyncio.sleep(0.5)
