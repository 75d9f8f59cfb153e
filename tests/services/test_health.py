"""The health service: statuses on the bus, snapshots in Redis."""

from datetime import timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from health.monitor import HealthMonitor
from health.service import HealthService
from sluice.bus.messages import DeliveryEvent, ProviderHealth, RequestRejected
from sluice.health.breaker import HealthThresholds
from sluice.runtime.clock import utc_now
from tests.examples import PROJECT, PROVIDER, an_id

KEY = "sluice:health:providers"


@pytest.fixture
async def redis(redis_url):
    async with Redis.from_url(redis_url) as client:
        await client.delete(KEY)
        yield client
        await client.delete(KEY)


@pytest.fixture
def service(bus, redis):
    return a_service(bus, redis)


def a_service(bus, redis):
    return HealthService(HealthMonitor(HealthThresholds()), bus, redis)


def an_attempt(outcome="provider_fault", provider_id=PROVIDER):
    return DeliveryEvent(
        delivery_id=an_id(),
        sequence=3,
        message_id=an_id(),
        project_id=PROJECT,
        channel="email",
        type="attempt_failed",
        occurred_at=utc_now(),
        provider_id=provider_id,
        outcome=outcome,
    ).encode()


def published(bus):
    return [ProviderHealth.model_validate_json(value).status for value in bus.on("provider.health")]


async def test_a_batch_of_failures_is_published_at_once(service, bus):
    service.on_events([an_attempt()] * 5)

    assert published(bus) == ["unhealthy"]


async def test_an_unreadable_value_is_no_evidence(service, bus):
    rejected = RequestRejected(
        project_id=PROJECT, code="c", message="m", topic="send.requests", partition=0, offset=1, occurred_at=utc_now()
    )

    service.on_events([b"", b"{", rejected.encode(), an_attempt("accepted")])

    assert published(bus) == ["healthy"]


async def test_a_restarted_process_has_the_evidence_of_the_snapshot(service, bus, redis):
    service.on_events([an_attempt()] * 5)
    await service.snapshot(redis)

    restarted = a_service(bus, redis)
    await restarted.restore()

    assert [one.status for one in restarted.statuses()] == ["unhealthy"]


async def test_after_a_restart_the_pause_that_a_provider_asked_for_still_holds(service, bus, redis):
    throttled = DeliveryEvent.model_validate_json(an_attempt("throttled")).model_copy(update={"retry_after_s": 600.0})
    service.on_events([throttled.encode()])
    (before,) = service.statuses()
    await service.snapshot(redis)

    restarted = a_service(bus, redis)
    await restarted.restore()

    (now,) = restarted.statuses()
    assert now.suspended_until == before.suspended_until
    assert now.suspended_until > utc_now() + timedelta(seconds=590)


async def test_a_snapshot_of_another_version_is_deleted(service, redis):
    await redis.hset(KEY, mapping={"old": b'[{"provider_id": 1}]'})

    await service.restore()

    assert (service.statuses(), await redis.exists(KEY)) == ([], 0)


async def test_a_key_of_another_type_does_not_stop_the_start(service, redis):
    await redis.set(KEY, b"[]")

    await service.restore()

    assert service.statuses() == []


async def test_a_snapshot_that_redis_lost_is_written_again(service, redis):
    others = [uuid4() for _ in range(3)]
    service.on_events([an_attempt(provider_id=one) for one in others])
    await service.snapshot(redis)
    await redis.delete(KEY)

    for _ in range(3):
        await service.snapshot(redis)

    assert (await redis.hlen(KEY), await redis.ttl(KEY) > 0) == (3, True)


async def test_a_change_that_redis_did_not_take_is_written_later(service, redis):
    service.on_events([an_attempt()])
    async with Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2) as unreachable:
        await service.snapshot(unreachable)

    await service.snapshot(redis)

    assert await redis.hlen(KEY) == 1


async def test_an_attempt_counts_when_its_event_has_the_type_of_a_newer_version(service, bus):
    service.on_events([an_attempt().replace(b"attempt_failed", b"of_a_newer_version")] * 5)

    assert published(bus) == ["unhealthy"]
