"""A repeated request is one request, whatever happened between the two."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from gateway.auth.principal import KeyPrincipal
from gateway.domains.checker import DomainChecker
from gateway.errors import IdempotencyConflict, ValidationFailed
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.messages.v1_schemas import to_command
from gateway.templates.rendering import TemplateRenderer
from gateway.unsubscribe.links import UnsubscribeLinks
from sluice.delivery.outbox import OutboxPublisher
from sluice.store import api_keys, projects
from sluice.store.config_cache import ConfigCache
from sluice.store.db import open_pool
from tests.examples import a_body
from tests.polling import wait_until
from tests.services.fakes import FakePublisher, with_a_patient_gateway


@pytest.fixture
async def gateway(database, monkeypatch):
    """An ingest on a real database, a principal of its project, and the number of its messages."""
    with_a_patient_gateway(monkeypatch)
    async with open_pool(database, size=4, name="test") as pool:
        now = datetime.now(UTC)
        project = await projects.create_project(pool, organization="O", slug="p", name="P", now=now)
        await api_keys.create_key(pool, project.id, name="k", is_test=False, now=now)
        (key,) = await api_keys.list_keys(pool)
        principal = KeyPrincipal(key.id, project.id, is_test=False)
        async with (
            ConfigCache().subscribed(database) as config,
            MessageIngest(
                pool,
                config,
                FakePublisher(),
                outbox=OutboxPublisher(pool, FakePublisher()),
                templates=TemplateRenderer(pool, config),
                unsubscribe_links=UnsubscribeLinks(lambda: [bytes(32)], public_url=None),
                domains=DomainChecker(),
                requeue_after=timedelta(seconds=8),
                max_pending=100,
                dispatch_queue_limit=4000,
            ).running() as ingest,
        ):

            async def count():
                return await pool.fetchval("SELECT count(*) FROM messages")

            async def accept(body, source="http", **options):
                return await ingest.accept(to_command(body, **options), principal, source=source)

            yield SimpleNamespace(ingest=ingest, accept=accept, principal=principal, count=count)


def in_a_moment(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def a_minute_ago():
    return datetime.now(UTC) - timedelta(seconds=60)


def request(**changes):
    return json.dumps(a_body(**changes)).encode()


async def test_a_repeat_after_send_at_gets_the_first_response(gateway):
    body = request(idempotency_key="k", send_at=in_a_moment(-30))
    first = await gateway.accept(body, submitted_at=a_minute_ago())

    again = await gateway.accept(body)

    assert (again.message_id, again.replayed) == (first.message_id, True)


async def test_another_body_after_send_at_is_still_a_conflict(gateway):
    when = in_a_moment(-30)
    await gateway.accept(request(idempotency_key="k", send_at=when), submitted_at=a_minute_ago())

    with pytest.raises(IdempotencyConflict):
        await gateway.accept(request(idempotency_key="k", send_at=when, subject="Other"))


async def test_a_first_request_with_a_past_send_at_is_refused(gateway):
    with pytest.raises(ValidationFailed):
        await gateway.accept(request(idempotency_key="k", send_at=in_a_moment(-1)))


@pytest.mark.parametrize("field", ["send_at", "expires_at"])
async def test_a_record_that_is_consumed_late_is_judged_by_the_time_it_was_written(gateway, field):
    body = request(**{field: in_a_moment(-30)})

    await gateway.accept(body, source="kafka", fallback_key="r", submitted_at=a_minute_ago())

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
async def consume(gateway):
    async def authenticate_record(_headers, _body):
        return gateway.principal

    ingress = SendRequestConsumer(
        SimpleNamespace(authenticate_record=authenticate_record), gateway.ingest, FakePublisher(), max_body=100_000
    )

    async def process(*records):
        await ingress.handle_batch(list(records))
        await wait_until(lambda: all(record.acked for record in records))

    return process


async def test_a_record_without_a_key_that_is_consumed_twice_is_one_message(gateway, consume):
    await consume(a_record(request()))
    await consume(a_record(request()))

    assert await gateway.count() == 1


async def test_equal_records_at_different_offsets_are_two_messages(gateway, consume):
    await consume(a_record(request(), offset=1), a_record(request(), offset=2))
    await consume(a_record(request(), offset=1, timestamp=1_700_000_000_001))

    assert await gateway.count() == 3


async def test_the_callers_key_has_priority_over_the_positional_key(gateway, consume):
    await consume(a_record(request(idempotency_key="k"), offset=1), a_record(request(idempotency_key="k"), offset=2))

    assert await gateway.count() == 1


async def test_no_timestamp_of_a_producer_breaks_the_ingress(gateway, consume):
    await consume(*(a_record(request(), offset=n, timestamp=when) for n, when in enumerate((-1, 0, 2**62))))

    assert await gateway.count() == 3


async def test_only_one_of_many_concurrent_requests_with_a_key_is_stored(gateway):
    body = request(idempotency_key="k")
    answers = await asyncio.gather(*(gateway.accept(body) for _ in range(50)))

    assert len({answer.message_id for answer in answers}) == await gateway.count() == 1
