"""F8: a worker whose clock is two hours wrong holds the same leases and sets the same times as any other."""

from datetime import UTC, datetime

import pytest

from sluice.runtime import clock, metrics
from sluice.runtime.clock import utc_now
from sluice.store import deliveries, recovery
from sluice.store.contact import DatabaseContact
from tests.examples import seconds
from tests.polling import wait_until
from tests.services.test_worker import ACCEPTED, DOWN, a_worker, harness, provider, transport  # noqa: F401  fixtures

HOURS = 2 * 3600


@pytest.fixture(params=[-HOURS, HOURS], ids=["behind", "ahead"])
def wrong_clock(request, monkeypatch):
    """The clock of this machine is wrong; gives by how many seconds."""
    monkeypatch.setattr(clock, "_reference", None)
    monkeypatch.setattr(clock, "_wall_clock", lambda: datetime.now(UTC) + seconds(request.param))
    return request.param


@pytest.fixture
async def contact(wrong_clock, store):
    """As in a role: the process follows PostgreSQL's clock."""
    async with DatabaseContact(store.pool).running():
        yield


async def age(store, moment):
    """Seconds from ``moment`` to now, by PostgreSQL's clock."""
    return (await store.pool.fetchval("SELECT now()") - moment).total_seconds()


async def test_f8_the_process_follows_the_database(wrong_clock, contact, store):
    assert abs(await age(store, utc_now())) < 60
    assert abs(metrics.CLOCK_SKEW._value.get() - wrong_clock) < 60


async def test_f8_time_goes_on_between_two_probes(contact, monkeypatch):
    before = utc_now()
    monkeypatch.setattr(clock, "_wall_clock", lambda: datetime(1999, 1, 1, tzinfo=UTC))  # the clock is set

    await wait_until(lambda: utc_now() > before)
    assert utc_now() - before < seconds(60)


@pytest.mark.usefixtures("contact")
async def test_f8_a_call_in_progress_is_not_lost_and_its_times_are_right(harness, provider, store):  # noqa: F811
    task = await harness.a_delivery()
    async with harness.unanswered(harness.a_record(task, provider)):
        await wait_until(lambda: harness.worker.in_flight)
        due_at = (await store.pending(task.delivery_id))["due_at"]
        lease = -(await age(store, due_at))
        expired = await recovery.list_expired_leases(store.router, limit=10)

    (attempt,) = await store.attempts(task.delivery_id)
    assert expired == []
    assert 0 < lease <= 12
    assert (attempt["outcome"], await store.state(task.delivery_id)) == ("accepted", "SENT")
    rows = await store.pool.fetch("SELECT occurred_at FROM events WHERE delivery_id = $1", task.delivery_id)
    times = [attempt["started_at"], attempt["finished_at"], *(row["occurred_at"] for row in rows)]
    assert [moment for moment in times if abs(await age(store, moment)) > 60] == []
    assert all((event.duration_ms or 0) >= 0 for event in harness.events)


@pytest.mark.usefixtures("contact")
async def test_f8_the_next_attempt_is_due_within_seconds(harness, provider, transport, store):  # noqa: F811
    transport.response = DOWN
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    row = await store.pending(task.delivery_id)
    assert 0 < -(await age(store, row["due_at"])) <= 8
    assert [one.enqueued_at for one in harness.rerouted] == [row["enqueued_at"]]


@pytest.mark.usefixtures("contact")
async def test_f8_a_delivery_expires_at_its_time_and_not_hours_from_it(harness, provider, transport, store):  # noqa: F811
    now = await store.pool.fetchval("SELECT now()")
    alive = await harness.a_delivery(expires_at=now + seconds(600))
    expired = await harness.a_delivery(expires_at=now - seconds(1))

    await harness.handle(*[harness.a_record(task, provider) for task in (alive, expired)])

    assert await store.state(alive.delivery_id) == "SENT"
    assert await store.state(expired.delivery_id) == "EXPIRED"


async def test_f8_leases_do_not_depend_on_the_process_at_all(wrong_clock, harness, provider, store):  # noqa: F811
    """Nor on a clock that it followed before it was suspended."""
    now = await store.pool.fetchval("SELECT now()")
    task = await harness.a_delivery(expires_at=now + seconds(86_400))
    async with harness.unanswered(harness.a_record(task, provider)):
        await wait_until(lambda: harness.worker.in_flight)
        lease = -(await age(store, (await store.pending(task.delivery_id))["due_at"]))
        expired = await recovery.list_expired_leases(store.router, limit=10)

    assert 0 < lease <= 12
    assert expired == []


async def test_f8_renewed_leases_are_by_the_database_too(wrong_clock, harness, provider, store):  # noqa: F811
    now = await store.pool.fetchval("SELECT now()")
    task = await harness.a_delivery(expires_at=now + seconds(86_400))
    async with harness.unanswered(harness.a_record(task, provider)):
        await wait_until(lambda: harness.worker.in_flight)
        await deliveries.renew(store.worker, [(task.delivery_id, 1)], lease=seconds(100))
        lease = -(await age(store, (await store.pending(task.delivery_id))["due_at"]))

    assert 40 < lease <= 100
