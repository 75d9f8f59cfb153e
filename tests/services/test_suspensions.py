"""Deliveries that wait for the end of a suspension: they are due when it ends early, whatever ends it."""

import pytest

from router.handler import RoutingHandler
from router.recovery import Recovery, RecoverySettings
from router.suspensions import SuspensionWatch
from sluice.bus.messages import Assignment, AttemptReport, ProviderProbeRequested
from sluice.delivery.retry_policy import defer
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.health.breaker import HealthThresholds
from sluice.health.monitor import HealthMonitor
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from tests.examples import PROJECT, a_message, a_policy, a_provider, a_task, health_of, seconds
from tests.polling import wait_until
from tests.services.fakes import FakeRecord
from tests.services.test_recovery import StubProgress
from tests.services.test_worker import StubConfig


@pytest.fixture
def provider():
    return a_provider()


@pytest.fixture
def config(provider):
    return StubConfig(provider)


@pytest.fixture
def health():
    return {}


@pytest.fixture
async def settlements(store, bus):
    async with SettlementWriter(store.router, bus).running() as settlements:
        yield settlements


@pytest.fixture
def watch(config, health):
    return SuspensionWatch(config, health)


async def a_deferred_delivery(store, settlements, until, *, expires_at=None):
    """A delivery that waits until then, at the latest until it expires."""
    now = utc_now()
    message = a_message(now, expires_at=expires_at or now + seconds(86_400))
    await store.accept(message)
    task = a_task(delivery_id=message.deliveries[0].id, message_id=message.id, expires_at=message.expires_at)
    await settlements.settle(Settlement(task, defer(task, until=until, reason="suspended", at=now)))
    return task.delivery_id


async def due(store):
    """The deliveries that are due, by id."""
    rows = await store.pool.fetch("SELECT id FROM deliveries WHERE due_at <= now() AND enqueued_at IS NULL")
    return {row["id"] for row in rows}


def suspended(provider, until):
    return health_of(provider, "unhealthy", suspended_until=until)


def a_refusal(provider, at):
    return AttemptReport.model_construct(
        project_id=PROJECT,
        channel=Channel.EMAIL,
        provider_id=provider.id,
        outcome="auth_failed",
        occurred_at=at,
        scope=None,
        retry_after_s=None,
        duration_ms=100,
        destination="",
        delivery_id=None,
        type="attempt_failed",
    )


class HealthService:
    """The health service without a bus: what it is given changes the statuses that routers read."""

    def __init__(self, statuses):
        self._monitor, self._statuses = HealthMonitor(HealthThresholds()), statuses

    def read(self, report, at):
        self._monitor.record_attempts([report], at)
        self._statuses.update((one.provider_id, one) for one in self._monitor.changed_statuses(at))


@pytest.fixture
async def routing(config, health, bus, settlements):
    routing = RoutingHandler(
        config=config, health=health, publisher=bus, settlements=settlements, policy=a_policy(retry_schedule=())
    )
    yield routing
    await routing.join()


@pytest.fixture
def recovery(store, config, health, bus, settlements):
    return Recovery(
        pool=store.router,
        config=config,
        publisher=bus,
        settlements=settlements,
        progress=StubProgress(),
        health=health,
        settings=RecoverySettings(postgres_dsn="unused", kafka_bootstrap_servers="unused:1"),
    )


async def test_a_delivery_leaves_soon_after_wrong_credentials_were_replaced(
    store, bus, provider, health, routing, recovery
):
    """The only provider has refused its key for hours. The probe that a change of the key asks for ends the pause."""
    now, service = utc_now(), HealthService(health)
    for number in range(10):
        at = now - seconds(3600 * (9 - number) + 1)
        service.read(a_refusal(provider, at), at)
    assert health[provider.id].suspended_until > now + seconds(3000)
    message = a_message(now, expires_at=now + seconds(86_400))
    await store.accept(message)
    task = a_task(delivery_id=message.deliveries[0].id, message_id=message.id, expires_at=message.expires_at)
    await routing.handle_batch([FakeRecord(task.encode(), topic="deliveries.accepted")])
    await routing.join()
    await recovery.run_once()
    assert (bus.on("deliveries.accepted"), bus.on("deliveries.email")) == ([], [])

    fields = {"project_id": PROJECT, "channel": Channel.EMAIL, "provider_id": provider.id, "occurred_at": utc_now()}
    service.read(AttemptReport.model_validate_json(ProviderProbeRequested(**fields).encode()), utc_now())

    async def enqueued():
        await recovery.run_once()
        return bus.on("deliveries.accepted")

    [value] = await wait_until(enqueued)
    await routing.handle_batch([FakeRecord(value, topic="deliveries.accepted")])
    [assigned] = bus.on("deliveries.email")
    assert Assignment.model_validate_json(assigned).task.delivery_id == task.delivery_id


async def test_only_what_waits_for_the_suspension_is_due_at_its_end(store, provider, health, settlements, watch):
    now = utc_now()
    first, last = now + seconds(1000), now + seconds(3600)
    health[provider.id] = suspended(provider, first)
    await watch.run_once(store.router, now)
    health[provider.id] = suspended(provider, last)
    await watch.run_once(store.router, now)
    waiting = {
        await a_deferred_delivery(store, settlements, first),
        await a_deferred_delivery(store, settlements, last),
        await a_deferred_delivery(store, settlements, last, expires_at=now + seconds(600)),
    }
    await a_deferred_delivery(store, settlements, now + seconds(1200))  # as a retry round or a scheduled message
    await watch.run_once(store.router, now)
    assert await due(store) == set()

    health[provider.id] = health_of(provider, "unhealthy")
    await watch.run_once(store.router, now)

    assert await due(store) == waiting


async def test_another_provider_takes_what_waits_for_a_suspended_one(
    store, provider, config, health, settlements, watch
):
    now = utc_now()
    health[provider.id] = suspended(provider, now + seconds(3600))
    waiting = await a_deferred_delivery(store, settlements, now + seconds(3600))
    await watch.run_once(store.router, now)

    added = a_provider(2)
    config.providers[added.id] = added
    await watch.run_once(store.router, now)

    assert await due(store) == {waiting}


async def test_what_a_router_with_older_news_defers_meanwhile_is_due_as_well(
    store, provider, health, settlements, watch
):
    now = utc_now()
    health[provider.id] = suspended(provider, now + seconds(3600))
    await watch.run_once(store.router, now)
    del health[provider.id]
    await watch.run_once(store.router, now)

    late = await a_deferred_delivery(store, settlements, now + seconds(3600))
    await watch.run_once(store.router, now)

    assert await due(store) == {late}


async def test_a_suspension_that_ends_at_its_time_asks_the_database_for_nothing(provider, health, watch):
    now = utc_now()
    health[provider.id] = suspended(provider, now + seconds(5))
    await watch.run_once(None, now)

    await watch.run_once(None, now + seconds(6))
    await watch.run_once(None, now + seconds(7))


async def test_many_deliveries_are_made_due_in_several_passes(store, provider, health, settlements, watch, monkeypatch):
    monkeypatch.setattr("router.suspensions._BATCH", 2)
    now = utc_now()
    health[provider.id] = suspended(provider, now + seconds(3600))
    waiting = {await a_deferred_delivery(store, settlements, now + seconds(3600)) for _ in range(5)}
    await watch.run_once(store.router, now)
    del health[provider.id]

    sizes = []
    for _ in range(4):
        await watch.run_once(store.router, now)
        sizes.append(len(await due(store)))

    assert (sizes, await due(store)) == ([2, 4, 5, 5], waiting)
