"""A request that comes again is one request, whatever has become of the world in between."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from gateway.errors import IdempotencyConflict, ValidationFailed
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from sluice.store import api_keys, projects
from sluice.store.config_cache import ConfigCache
from sluice.store.db import open_pool
from tests.examples import a_body
from tests.services.fakes import FakePublisher

pytestmark = pytest.mark.store


@pytest.fixture
async def gateway(database):
    """An acceptance on a real record, a key of its project, and the number of messages it has made."""
    async with open_pool(database, size=4, name="test") as pool:
        now = datetime.now(UTC)
        project = await projects.create_project(pool, organization="O", slug="p", name="P", now=now)
        await api_keys.create_key(pool, project.id, name="k", is_test=False, now=now)
        (key,) = await api_keys.list_keys(pool)
        async with (
            ConfigCache().subscribed(database) as known,
            MessageIngest(
                pool,
                known,
                FakePublisher(),
                requeue_after=timedelta(seconds=8),
                max_pending=100,
                dispatch_queue_limit=4000,
            ).running() as acceptance,
        ):

            async def count():
                return await pool.fetchval("SELECT count(*) FROM messages")

            yield SimpleNamespace(acceptance=acceptance, key=key, count=count, pool=pool)


def in_a_moment(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def request(**changes):
    return json.dumps(a_body(**changes)).encode()


async def test_a_repeat_after_send_at_gets_the_first_answer(gateway):
    body = request(idempotency_key="k", send_at=in_a_moment(0.3))
    first = await gateway.acceptance.accept(body, gateway.key, source="http")
    await asyncio.sleep(0.4)

    again = await gateway.acceptance.accept(body, gateway.key, source="http")

    assert (again.message_id, again.replayed) == (first.message_id, True)


async def test_another_body_after_send_at_is_still_a_conflict(gateway):
    when = in_a_moment(0.3)
    await gateway.acceptance.accept(request(idempotency_key="k", send_at=when), gateway.key, source="http")
    await asyncio.sleep(0.4)

    with pytest.raises(IdempotencyConflict):
        await gateway.acceptance.accept(
            request(idempotency_key="k", send_at=when, subject="Other"), gateway.key, source="http"
        )


async def test_a_first_request_with_a_past_send_at_is_refused(gateway):
    with pytest.raises(ValidationFailed):
        await gateway.acceptance.accept(request(idempotency_key="k", send_at=in_a_moment(-1)), gateway.key, source="http")


@pytest.mark.parametrize("field", ["send_at", "expires_at"])
async def test_a_record_that_is_read_late_is_judged_by_when_it_was_written(gateway, field):
    submitted_at = datetime.now(UTC) - timedelta(seconds=60)

    await gateway.acceptance.accept(
        request(**{field: in_a_moment(-30)}), gateway.key, source="bus", fallback_key="r", submitted_at=submitted_at
    )

    assert await gateway.count() == 1


def a_record(value, offset=7, timestamp=1_700_000_000_000):
    headers = [("x-sendpipe-key", b"k")]
    record = SimpleNamespace(value=value, headers=headers, topic="send.requests", partition=1, offset=offset)
    record.timestamp, record.owned, record.acked = timestamp, True, 0

    def ack():
        record.acked += 1

    record.ack = ack
    return record


@pytest.fixture
async def intake(gateway):
    async def check(_):
        return gateway.key

    made = SendRequestConsumer(SimpleNamespace(authenticate=check), gateway.acceptance, FakePublisher(), max_body=100_000)

    async def read(*records):
        await made.handle_batch(list(records))
        async with asyncio.timeout(10):
            while not all(record.acked for record in records):
                await asyncio.sleep(0.01)

    return read


async def test_a_record_without_a_key_that_is_read_twice_is_one_message(gateway, intake):
    await intake(a_record(request()))
    await intake(a_record(request()))

    assert await gateway.count() == 1


async def test_equal_records_at_two_places_are_two_messages(gateway, intake):
    await intake(a_record(request(), offset=1), a_record(request(), offset=2))
    await intake(a_record(request(), offset=1, timestamp=1_700_000_000_001))

    assert await gateway.count() == 3


async def test_a_callers_key_comes_before_the_records_own(gateway, intake):
    await intake(a_record(request(idempotency_key="k"), offset=1), a_record(request(idempotency_key="k"), offset=2))

    assert await gateway.count() == 1


async def test_no_time_that_a_producer_writes_breaks_the_intake(gateway, intake):
    await intake(*(a_record(request(), offset=n, timestamp=when) for n, when in enumerate((-1, 0, 2**62))))

    assert await gateway.count() == 3


async def test_the_record_is_the_only_judge_of_a_key(gateway):
    body = request(idempotency_key="k")
    answers = await asyncio.gather(*(gateway.acceptance.accept(body, gateway.key, source="http") for _ in range(50)))

    assert len({answer.message_id for answer in answers}) == await gateway.count() == 1
