"""Call rates over several workers, with a real Redis."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from sluice.delivery.bulkhead import Bulkhead
from sluice.delivery.call_permits import CallPermits, PermitRequest, PermitSource
from sluice.model.ids import uuid7
from sluice.runtime import metrics
from sluice.runtime.redis_client import open_redis
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice_launcher.process_info import free_port
from tests.unit.test_call_window import most_in_a_second

RATE = 20


@pytest.fixture
async def redis(redis_url):
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def provider_id():
    return uuid7()


class Caller:
    """A worker: starts the calls that its bulkhead permits, and notes when."""

    def __init__(self, redis, provider_id, jobs, segments=1):
        self.calls = []
        self.provider_id = provider_id
        self.bulkhead = Bulkhead(256, call_rate=RATE)
        self.permits = CallPermits(PermitSource(redis), self.dispatch)
        for job in range(jobs):
            self.bulkhead.enqueue(job, 0.0, urgent=False, permits=segments)
        self.segments = segments
        self.permits.want(provider_id, self.bulkhead)

    def dispatch(self, provider_id, bulkhead):
        while (job := bulkhead.acquire(now := time.monotonic())) is not None:
            self.calls += [now] * self.segments
            bulkhead.release(job, now)
        self.permits.want(provider_id, bulkhead)


async def call_all(callers):
    loops = [supervised(caller.permits.run(), name=f"permits-{at}") for at, caller in enumerate(callers)]
    while any(caller.bulkhead.waiting for caller in callers):
        await asyncio.sleep(0.02)
    await cancel_and_wait(*loops)
    return sorted(time for caller in callers for time in caller.calls)


async def test_three_workers_together_start_no_more_calls_in_any_second_than_the_provider_allows(redis, provider_id):
    callers = [Caller(redis, provider_id, jobs=25) for _ in range(3)]

    calls = await call_all(callers)

    assert len(calls) == 75
    assert most_in_a_second(calls) <= RATE


async def test_segments_of_long_and_short_messages_count_and_nobody_waits_for_ever(redis, provider_id):
    """Two workers with short messages would take every permit before the third one finds eight at once."""
    short, also_short = (Caller(redis, provider_id, jobs=40) for _ in range(2))
    long = Caller(redis, provider_id, jobs=4, segments=8)

    calls = await call_all([short, also_short, long])

    assert len(calls) == 80 + 32
    assert most_in_a_second(calls) <= RATE
    assert long.calls[0] < short.calls[-1]
    assert long.calls[0] < also_short.calls[-1]


async def test_a_message_of_more_segments_than_the_rate_gets_a_second_of_its_own(redis, provider_id):
    callers = [Caller(redis, provider_id, jobs=2, segments=RATE + 5), Caller(redis, provider_id, jobs=10)]

    await call_all(callers)

    huge, short = ([*dict.fromkeys(caller.calls)] for caller in callers)
    assert len(huge) == 2
    assert huge[1] - huge[0] >= 1
    assert all(abs(one - other) >= 1 for one in huge for other in short)


async def test_permits_are_not_granted_in_part(redis, provider_id):
    source, other = PermitSource(redis), PermitSource(redis)
    await source.take([PermitRequest(provider_id, 10, 7)])

    assert (await source.take([PermitRequest(provider_id, 10, 5, 5)]))[0] == {provider_id: 0}
    assert (await other.take([PermitRequest(provider_id, 10, 5)]))[0] == {provider_id: 0}  # reserved
    assert (await source.take([PermitRequest(provider_id, 10, 3, 3)]))[0] == {provider_id: 3}


async def test_without_redis_each_worker_keeps_to_its_share(redis, provider_id):
    sources = [PermitSource(redis) for _ in range(3)]
    for source in sources:
        await source.take([PermitRequest(provider_id, 30, 0)])
    await sources[0].take([PermitRequest(provider_id, 30, 0)])  # the first one has counted itself only

    async with open_redis(f"redis://127.0.0.1:{free_port()}/0") as broken:
        sources[0]._redis = sources[2]._redis = broken
        granted = [(await source.take([PermitRequest(provider_id, 30, 99)]))[0] for source in (sources[0], sources[2])]

    assert granted == [{provider_id: 10}, {provider_id: 10}]
    assert metrics.CALL_RATES_LOCAL._value.get() == 1


async def test_permits_are_shared_again_when_redis_answers_again(redis, provider_id):
    source = PermitSource(None)
    await source.take([PermitRequest(provider_id, 30, 5)])
    source._redis = redis

    granted, _ = await source.take([PermitRequest(provider_id, 30, 99)])

    assert granted == {provider_id: 30}
    assert metrics.CALL_RATES_LOCAL._value.get() == 0
    other, _ = await PermitSource(redis).take([PermitRequest(provider_id, 30, 99)])
    assert other == {provider_id: 0}


async def test_many_providers_cost_one_request(redis, monkeypatch):
    requests = [PermitRequest(uuid7(), limit, 3) for limit in (1, 2, 50)]
    source, sent = PermitSource(redis), []
    pipeline = redis.pipeline
    monkeypatch.setattr(redis, "pipeline", lambda **options: sent.append(1) or pipeline(**options))

    granted, _ = await source.take(requests)

    assert (list(granted.values()), len(sent)) == ([1, 2, 3], 1)


async def test_what_redis_keeps_expires(redis, provider_id):
    await PermitSource(redis).take([PermitRequest(provider_id, 30, 3)])

    keys = [key async for key in redis.scan_iter(f"sluice:calls:*{provider_id}*")]

    assert len(keys) == 2
    assert all([0 < await redis.ttl(key) <= 61 for key in keys])


async def test_a_call_whose_permit_has_ended_waits_for_another_one(redis, provider_id):
    caller = Caller(redis, provider_id, jobs=0)
    job = type("Job", (), {"provider_id": provider_id})()
    caller.bulkhead.enqueue(job, 0.0, urgent=False)
    caller.bulkhead.grant(1, time.monotonic() + 0.01)
    while caller.bulkhead.acquire(time.monotonic()) is None:
        caller.bulkhead.grant(1, time.monotonic() + 0.01)
    await asyncio.sleep(0.02)
    assert not caller.bulkhead.may_call(job, time.monotonic())

    loop = supervised(caller.permits.run(), name="permits")
    await asyncio.wait_for(caller.permits.renew(caller.bulkhead, job), 60)
    await cancel_and_wait(loop)
