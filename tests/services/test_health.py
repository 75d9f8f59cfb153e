"""The health service: statuses on the bus, snapshots in Redis."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from aiokafka.errors import KafkaTimeoutError
from redis.asyncio import Redis

from health.service import REMEMBERED, HealthService
from sluice.bus.messages import DeliveryEvent, ProviderHealth
from sluice.health.breaker import HealthThresholds
from sluice.health.monitor import HealthMonitor
from sluice.runtime.clock import utc_now
from tests.examples import PROJECT, PROVIDER, a_rejection, an_acceptance, an_id

KEY = "sluice:health:providers"


@pytest.fixture
async def redis(redis_url):
    async with Redis.from_url(redis_url) as client:
        await client.delete(KEY)
        yield client
        await client.delete(KEY)


class Rewind:
    """Notes how far back a service reads again."""

    def __init__(self):
        self.calls = []

    async def __call__(self, back):
        self.calls.append(back)


@pytest.fixture
async def service(bus, redis):
    return await a_leader(bus, redis)


async def a_leader(bus, redis, rewind=None):
    service = HealthService(HealthMonitor(HealthThresholds()), bus, redis)
    await service.lead(rewind or Rewind())
    return service


def last_published(bus):
    return ProviderHealth.model_validate_json(bus.on("provider.health")[-1])


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
    rejected, accepted = a_rejection(occurred_at=utc_now()), an_acceptance(occurred_at=utc_now(), offset=2)

    service.on_events([b"", b"{", rejected.encode(), accepted.encode(), an_attempt("accepted")])

    assert published(bus) == ["healthy"]


async def test_a_restarted_process_has_the_evidence_of_the_snapshot(service, bus, redis):
    service.on_events([an_attempt()] * 5)
    await service.snapshot(redis)

    rewind = Rewind()
    restarted = await a_leader(bus, redis, rewind)
    restarted.on_events([an_attempt("accepted")])

    [back] = rewind.calls
    assert last_published(bus).status == "unhealthy"
    assert timedelta(seconds=1) <= back < timedelta(seconds=60)  # what came after the snapshot


async def test_after_a_restart_the_pause_that_a_provider_asked_for_still_holds(service, bus, redis):
    throttled = DeliveryEvent.model_validate_json(an_attempt("throttled")).model_copy(update={"retry_after_s": 600.0})
    service.on_events([throttled.encode()])
    before = last_published(bus)
    await service.snapshot(redis)

    restarted = await a_leader(bus, redis)
    restarted.on_events([an_attempt()] * 5)

    now = last_published(bus)
    assert now.suspended_until == before.suspended_until
    assert now.suspended_until > utc_now() + timedelta(seconds=590)


async def test_a_snapshot_of_another_version_is_deleted_and_the_attempts_are_read_again(bus, redis):
    await redis.hset(KEY, mapping={"old": b'[{"provider_id": 1}]'})
    rewind = Rewind()

    await a_leader(bus, redis, rewind)

    assert (rewind.calls, await redis.exists(KEY)) == ([REMEMBERED], 0)


@pytest.mark.parametrize("kept", ["nothing", "a key of another type", "no redis"])
async def test_without_a_snapshot_the_attempts_are_read_again(bus, redis, kept):
    if kept == "a key of another type":
        await redis.set(KEY, b"[]")
    rewind = Rewind()

    await a_leader(bus, None if kept == "no redis" else redis, rewind)

    assert rewind.calls == [REMEMBERED]


async def fails(_back):
    raise KafkaTimeoutError


async def never_ends(_back):
    await asyncio.Event().wait()


@pytest.mark.parametrize("rewind", [fails, never_ends])
async def test_a_leader_that_cannot_read_attempts_again_goes_on_with_new_ones(bus, redis, rewind, monkeypatch):
    monkeypatch.setattr("health.service._TAKEOVER", 0.5)
    service = await a_leader(bus, redis, rewind)

    service.on_events([an_attempt()] * 5)

    assert published(bus) == ["unhealthy"]


async def test_a_process_that_stands_by_publishes_nothing_and_writes_no_snapshot(service, bus, redis):
    service.on_events([an_attempt()] * 5)
    service.stand_by()
    service.on_events([an_attempt(provider_id=uuid4())] * 5)
    await service.snapshot(redis)

    assert (published(bus), await redis.hlen(KEY)) == (["unhealthy"], 1)


async def test_a_leader_keeps_its_evidence_over_a_rebalance(service, bus, redis):
    rewind = Rewind()
    service.on_events([an_attempt()] * 4)
    service.pause()
    await service.lead(rewind)
    service.on_events([an_attempt()])

    assert (published(bus), rewind.calls) == (["healthy", "unhealthy"], [])


async def test_a_leader_whose_place_was_taken_begins_with_the_snapshot_of_the_other(service, bus, redis):
    service.stand_by()
    other = await a_leader(bus, redis)
    other.on_events([an_attempt()] * 5)
    await other.snapshot(redis)

    await service.lead(Rewind())
    service.on_events([an_attempt("accepted")])

    assert last_published(bus).status == "unhealthy"


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
