"""Rate limits: the shared buckets on a real Redis, and the headers and refusals of the gateway."""

import asyncio
from dataclasses import replace

import httpx
import pytest
from redis.asyncio import Redis

from gateway.app import _open_redis
from gateway.asgi import Apis, create_asgi
from gateway.rate_limits.buckets import TokenBuckets
from gateway.rate_limits.limits import RateLimits
from sluice.model.ids import uuid7
from sluice.runtime import metrics
from sluice_launcher.process_info import free_port
from tests.examples import a_body, as_json
from tests.polling import wait_until
from tests.services import openapi_check
from tests.services.people import a_person, log_in
from tests.services.test_gateway import error_of


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def redis(redis_url):
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def name():
    """A bucket of this test."""
    return f"test:{uuid7()}"


async def admitted(buckets, name, capacity, count):
    budgets = [await buckets.spend(name, capacity) for _ in range(count)]
    return sum(budget.retry_after is None for budget in budgets)


async def test_a_bucket_admits_its_capacity_and_then_what_comes_in(name):
    clock = Clock()
    buckets = TokenBuckets(None, clock)

    assert await admitted(buckets, name, 60, 100) == 60
    clock.now += 5.0
    assert await admitted(buckets, name, 60, 100) == 5
    clock.now += 1_000.0
    assert await admitted(buckets, name, 60, 100) == 60


async def test_a_budget_says_what_is_left_and_when(name):
    buckets = TokenBuckets(None, Clock())

    first, second, third = [await buckets.spend(name, 2) for _ in range(3)]

    assert (first.limit, first.remaining, second.remaining, third.remaining) == (2, 1, 0, 0)
    assert (first.retry_after, second.retry_after) == (None, None)
    assert (round(third.retry_after), round(third.full_in)) == (30, 60)


@pytest.mark.parametrize("capacity", [1, 7, 1_000])
async def test_gateways_together_never_admit_more_than_the_bucket_has(redis, name, capacity):
    gateways = [TokenBuckets(redis) for _ in range(3)]

    counts = await asyncio.gather(*[admitted(gateway, name, capacity, capacity) for gateway in gateways])

    # What comes in while the test runs is admitted, too.
    elapsed = 60.0
    assert capacity * 0.9 <= sum(counts) <= capacity + capacity / 60.0 * elapsed
    assert await redis.ttl(f"sluice:rate:{name}") > 0


async def test_under_load_many_requests_share_one_round_trip(redis, name, monkeypatch):
    clock = Clock()
    buckets, asked = TokenBuckets(redis, clock), []
    take = buckets._take

    async def counted(**options):
        asked.append(options)
        return await take(**options)

    monkeypatch.setattr(buckets, "_take", counted)
    for _ in range(50):
        await admitted(buckets, name, 60_000, 100)
        clock.now += 0.1

    assert len(asked) < 500  # of 5,000 requests


async def test_a_lease_that_is_not_used_is_given_back(redis, name):
    clock = Clock()
    busy = TokenBuckets(redis, clock)
    await admitted(busy, name, 1_000, 300)
    clock.now += 1.5
    await busy.spend(name, 1_000)
    leased = busy._buckets[name].leased
    clock.now += 1.5
    await busy.spend(name, 1_000)

    shared = float(await redis.hget(f"sluice:rate:{name}", "tokens"))
    assert leased > 0
    assert shared + busy._buckets[name].leased >= 1_000 - 302


async def test_concurrent_requests_of_a_bucket_ask_once(redis, name, monkeypatch):
    buckets, asked = TokenBuckets(redis), []
    take = buckets._take

    async def slow(**options):
        asked.append(options)
        await asyncio.sleep(0.01)
        return await take(**options)

    monkeypatch.setattr(buckets, "_take", slow)
    budgets = await asyncio.gather(*[buckets.spend(name, 1) for _ in range(50)])

    assert sum(budget.retry_after is None for budget in budgets) == 1
    assert len(asked) == 2


async def test_without_redis_each_gateway_limits_by_itself_and_does_not_wait(name):
    redis = _open_redis(f"redis://127.0.0.1:{free_port()}/0")
    clock = Clock()
    buckets = TokenBuckets(redis, clock)

    assert await admitted(buckets, name, 5, 10) == 5
    assert metrics.RATE_LIMITS_LOCAL._value.get() == 1
    await redis.aclose()


async def test_when_redis_answers_again_limits_are_shared_again(redis, name):
    clock = Clock()
    buckets = TokenBuckets(redis, clock)
    take, buckets._take = buckets._take, None
    await buckets.spend(name, 100)
    buckets._take = take
    clock.now += 10.0

    await buckets.spend(name, 100)

    assert metrics.RATE_LIMITS_LOCAL._value.get() == 0
    assert float(await redis.hget(f"sluice:rate:{name}", "tokens")) < 100


async def test_the_number_of_buckets_in_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("gateway.rate_limits.buckets._MAX_BUCKETS", 10)
    buckets = TokenBuckets(None)

    for number in range(100):
        await buckets.spend(f"{number}", 5)

    assert len(buckets._buckets) == 10


# -- the gateway -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def limited(gateway):
    """Makes a client of the gateway with limits."""
    clients = []

    def make(**limits):
        limiter = RateLimits(TokenBuckets(None, Clock()), gateway.config, **limits)
        services = replace(gateway.services, rate_limits=limiter)
        transport = httpx.ASGITransport(
            create_asgi(services, Apis(services), max_request_bytes=100_000), raise_app_exceptions=False
        )

        async def check(response):
            await response.aread()
            openapi_check.check(response)

        client = httpx.AsyncClient(transport=transport, base_url="http://gateway", event_hooks={"response": [check]})
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


def limits_of(answer):
    return answer.headers.get("x-ratelimit-limit"), answer.headers.get("x-ratelimit-remaining")


async def test_every_answer_shows_what_is_left_until_none_is(gateway, limited):
    client = limited(per_organization=4)
    headers = {"x-sendpipe-key": gateway.key}
    sent = await client.post("/v1/messages/channel", headers=headers, content=as_json(a_body()))
    listed = await client.get("/v1/messages", headers=headers)
    unknown = await client.get("/v1/messages/x", headers=headers)
    invalid = await client.post("/v1/messages/channel", headers=headers, content=b"{")
    refused = [
        await client.post("/v1/messages/channel", headers=headers, content=as_json(a_body())),
        await client.get("/v1/messages", headers=headers),
    ]

    answers = [sent, listed, unknown, invalid]
    assert [answer.status_code for answer in answers] == [201, 200, 404, 400]
    assert [limits_of(answer) for answer in answers] == [("4", "3"), ("4", "2"), ("4", "1"), ("4", "0")]
    for answer in refused:
        error_of(answer, 429, "RATE_LIMIT_EXCEEDED")
        assert (limits_of(answer), answer.headers["retry-after"]) == (("4", "0"), "15")
    assert await gateway.count() == 1


async def test_projects_of_one_organization_share_its_limit_and_others_have_theirs(gateway, limited):
    client = limited(per_organization=1)
    other = await gateway.new_project("other")
    sibling = await gateway.new_project("sibling")
    await gateway.pool.execute(
        "UPDATE projects SET organization_id = (SELECT organization_id FROM projects WHERE slug = 'shop')"
        " WHERE slug = 'sibling'"
    )
    sibling_id = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'sibling'")
    shop = await gateway.pool.fetchrow("SELECT id, organization_id FROM projects WHERE slug = 'shop'")

    async def known():
        found = gateway.config.projects.get(sibling_id)
        return found is not None and found.organization_id == shop["organization_id"]

    await wait_until(known)

    statuses = [
        (await client.get("/v1/messages", headers={"x-sendpipe-key": key})).status_code
        for key in (gateway.key, sibling, other)
    ]

    assert statuses == [200, 429, 200]


async def test_an_address_is_limited_before_its_caller_is_known(gateway, limited):
    client = limited(per_address=2)

    answers = [await client.get("/v1/messages", headers={"x-sendpipe-key": "wrong"}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert [limits_of(answer) for answer in answers] == [("2", "1"), ("2", "0"), ("2", "0")]


async def test_webhooks_of_providers_are_not_limited_by_address(gateway, limited):
    client = limited(per_address=1)

    answers = [await client.post("/v1/receipts/prv_x", content=b"{}") for _ in range(3)]

    assert {answer.status_code for answer in answers} == {404}


async def test_without_limits_only_attempts_to_log_in_show_one(gateway):
    await a_person(gateway, "ada@example.com")

    sent = await gateway.post()
    login = await log_in(gateway, "ada@example.com", "wrong")

    assert limits_of(sent) == (None, None)
    assert limits_of(login) == ("5", "4")
