"""A worker in process with a real database: claims, calls once, settles; repeated and late records have no effect."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import uuid4

import httpx
import orjson
import pytest

from router.recovery import task_for
from sluice.bus.messages import DeliveryEvent, DeliveryTask, ProviderUnresponsive
from sluice.delivery import claims, leases
from sluice.delivery import worker as worker_module
from sluice.delivery.job import parse_job
from sluice.delivery.retry_policy import exhaust_round
from sluice.delivery.settings import WorkerPolicy
from sluice.delivery.settlement import SettlementWriter
from sluice.delivery.worker import Worker
from sluice.model import ids
from sluice.model.candidate import Candidate
from sluice.model.message import Channel, DeliveryClass, Sms
from sluice.model.outcome import Accepted, Scope, Throttled
from sluice.model.state import EventType
from sluice.providers.adapters import smtp as smtp_adapter
from sluice.providers.adapters.messagepipe import CAPTURED
from sluice.providers.adapters.twilio_sms import TWILIO, TwilioCredentials
from sluice.providers.contract import TransportKind
from sluice.providers.kit.smtp_types import Phase, SmtpReply
from sluice.providers.sms_link import LinkedAccount
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store import deliveries, receipts, sandbox
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.receipts import ReceiptEntry
from sluice.transports.provider_call import NoAnswerError, NotAllowedError, NotSentError
from sluice.transports.sandbox import SandboxTransport
from tests.examples import (
    PROJECT,
    a_message,
    a_provider,
    a_task,
    a_transition,
    an_assignment,
    seconds,
)
from tests.loopback import LOOPBACK_NETWORKS
from tests.polling import wait_until
from tests.services.fakes import FakeRecord, FakeTransport

ACCEPTED = SmtpReply(Phase.END_OF_DATA, 250, "2.0.0 Ok: queued as 12345")
DOWN = SmtpReply(Phase.END_OF_DATA, 451, "4.3.0 try again")
REFUSED = SmtpReply(Phase.RCPT, 550, "5.1.1 User unknown")

CIPHER = CredentialCipher(lambda: [bytes(32)])


class StubConfig(ConfigCache):
    """A configuration cache without PostgreSQL, whose accounts serve every project and channel."""

    def __init__(self, *rows):
        super().__init__()
        self.providers = {row.id: row for row in rows}

    def candidates(self, project_id, channel):
        return tuple(Candidate(row.id, row.package, row.priority) for row in self.providers.values() if row.enabled)

    def change(self, row, **changes):
        self.providers[row.id] = replace(row, **changes)


def an_smtp(priority=1, **changes):
    """An SMTP provider with credentials that can be decrypted."""
    row = a_provider(priority, **changes)
    encrypted = CIPHER.encrypt(b'{"host": "localhost", "port": 25}', project_id=row.project_id, provider_id=row.id)
    return a_provider(priority, **changes | {"id": row.id, "encrypted_credentials": encrypted})


class WorkerHarness:
    """A worker with a real database, a fake bus and a fake transport."""

    def __init__(self, store, bus, config, transport):
        self.store, self.bus, self.config, self.transport = store, bus, config, transport
        self.worker = None

    async def a_delivery(self, **changes):
        """The task of a delivery that was just accepted."""
        now = utc_now()
        message = a_message(now, **{"expires_at": now + seconds(3600)} | changes)
        await self.store.accept(message)
        return a_task(
            delivery_id=message.deliveries[0].id,
            message_id=message.id,
            delivery_class=message.delivery_class,
            enqueued_at=now,
            expires_at=message.expires_at,
        )

    def a_record(self, task, provider, **changes):
        """A record with the assignment of a task to a provider."""
        assignment = an_assignment(
            task=task,
            provider_id=provider.id,
            reference=changes.pop("reference", ids.attempt_reference(task.delivery_id, task.attempt)),
        )
        return FakeRecord(assignment.encode(), topic="deliveries.email", **changes)

    async def some(self, count, provider):
        """Records with the assignments of ``count`` new deliveries."""
        return [self.a_record(await self.a_delivery(), provider) for _ in range(count)]

    async def handle(self, *records):
        await self.worker.handle_batch(list(records))
        await wait_until(lambda: all(one.acked for one in records))

    @asynccontextmanager
    async def unanswered(self, *records):
        """Handles records; the provider does not respond before the block ends. Then all are acknowledged."""
        self.transport.gate.clear()
        await self.worker.handle_batch(list(records))
        yield
        self.transport.gate.set()
        await wait_until(lambda: all(one.acked for one in records))

    @property
    def events(self):
        return [DeliveryEvent.model_validate_json(value) for value in self.bus.on("delivery.events")]

    @property
    def rerouted(self):
        return [DeliveryTask.model_validate_json(value) for value in self.bus.on("deliveries.reroute")]


@pytest.fixture
def provider():
    return an_smtp()


@pytest.fixture
def transport():
    return FakeTransport(ACCEPTED)


@asynccontextmanager
async def a_worker(harness, http=None, elsewhere=lambda package: False, links=None, **policy):
    async with SettlementWriter(harness.store.worker, harness.bus).running() as settlements:
        worker = Worker(
            db=harness.store.worker,
            config=harness.config,
            cipher=CIPHER,
            transports={
                TransportKind.SMTP: harness.transport,
                TransportKind.HTTP: http,
                TransportKind.SANDBOX: harness.transport,
            },
            publisher=harness.bus,
            settlements=settlements,
            policy=WorkerPolicy(**{"outgoing_allow": LOOPBACK_NETWORKS} | policy),
            elsewhere=elsewhere,
            links=links,
        )
        async with worker.running():
            yield worker


@pytest.fixture
async def harness(store, bus, provider, transport):
    harness = WorkerHarness(store, bus, StubConfig(provider), transport)
    async with a_worker(harness, provider_queue_timeout=0.4) as harness.worker:
        yield harness


@pytest.fixture
async def long_timeout(store, bus, provider, transport):
    """As ``harness``, with a queue timeout that no test reaches."""
    harness = WorkerHarness(store, bus, StubConfig(provider), transport)
    async with a_worker(harness, provider_queue_timeout=60.0) as harness.worker:
        yield harness


async def test_an_assignment_is_sent_and_settled(harness, provider, transport):
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    (attempt,) = await harness.store.attempts(task.delivery_id)
    assert (await harness.store.state(task.delivery_id), attempt["outcome"], len(transport.requests)) == (
        "SENT",
        "accepted",
        1,
    )
    assert [(event.type, event.outcome) for event in harness.events] == [("sent", "accepted")]


def samples(metric, **labels):
    """The values of a metric's series with these labels, by name."""
    return {
        one.name: one.value
        for one in metric.collect()[0].samples
        if labels.items() <= one.labels.items() and "le" not in one.labels
    }


async def test_a_settlement_is_counted_with_its_duration(harness, provider, transport):
    duration = partial(samples, metrics.DELIVERY_DURATION, channel="email")
    sent = partial(samples, metrics.DELIVERY_TRANSITIONS, channel="email", type="sent")
    before = duration().get("sluice_delivery_duration_seconds_count", 0)
    counted = sent().get("sluice_delivery_transitions_total", 0)

    await harness.handle(harness.a_record(await harness.a_delivery(), provider))

    assert duration()["sluice_delivery_duration_seconds_count"] == before + 1
    assert sent()["sluice_delivery_transitions_total"] == counted + 1


async def test_a_repeated_assignment_is_sent_once(harness, provider, transport):
    task = await harness.a_delivery()

    await harness.handle(*[harness.a_record(task, provider) for _ in range(5)])
    await harness.handle(harness.a_record(task, provider))

    assert len(transport.requests) == 1


async def test_an_old_assignment_does_not_replace_the_next_one(harness, provider, transport):
    transport.response = DOWN
    task = await harness.a_delivery()
    await harness.handle(harness.a_record(task, provider))
    transport.response = ACCEPTED
    next_task = task.model_copy(update={"attempt": 2})

    await harness.handle(harness.a_record(task, provider), harness.a_record(next_task, provider))

    assert await harness.store.history(task.delivery_id) == [
        "accepted",
        "sending",
        "attempt_failed",
        "sending",
        "sent",
    ]
    assert [event.attempt for event in harness.events] == [1, 2]


async def test_a_cancelled_message_is_not_sent(harness, provider, transport):
    task = await harness.a_delivery()
    await harness.store.cancel(task.message_id)

    await harness.handle(harness.a_record(task, provider))

    assert (transport.requests, await harness.store.state(task.delivery_id)) == ([], "CANCELLED")


async def test_an_expired_message_is_not_sent(harness, provider, transport):
    task = await harness.a_delivery(expires_at=utc_now() - seconds(1))

    await harness.handle(harness.a_record(task, provider))

    assert (transport.requests, await harness.store.state(task.delivery_id)) == ([], "EXPIRED")


async def test_a_rejected_message_fails_without_another_attempt(harness, provider, transport):
    transport.response = REFUSED
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    assert (await harness.store.state(task.delivery_id), harness.rerouted) == ("FAILED", [])


@pytest.mark.parametrize(
    "answer",
    [DOWN, NotSentError("connection refused"), NotAllowedError("the address is not public")],
    ids=["451", "refused", "forbidden"],
)
async def test_a_failed_attempt_is_rerouted(harness, provider, transport, answer):
    transport.response = answer
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    (next_task,) = harness.rerouted
    assert (next_task.attempt, next_task.attempted_providers) == (2, (provider.id,))
    assert await harness.store.state(task.delivery_id) == "SENDING"


@pytest.mark.parametrize(
    "answer",
    [NoAnswerError("timed out"), RuntimeError("a bug of the transport"), "no response of this transport"],
    ids=str,
)
async def test_a_missing_or_unreadable_response_is_an_unknown_outcome(harness, provider, transport, answer):
    transport.response = answer
    task = await harness.a_delivery(delivery_class=DeliveryClass.ONCE)

    await harness.handle(harness.a_record(task, provider))

    (attempt,) = await harness.store.attempts(task.delivery_id)
    assert (attempt["outcome"], await harness.store.state(task.delivery_id)) == ("unknown", "UNCONFIRMED")


async def test_a_disabled_provider_is_not_called(harness, provider, transport):
    harness.config.change(provider, enabled=False)
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    (back,) = harness.rerouted
    assert (transport.requests, back.attempt, back.deprioritized) == ([], 1, (provider.id,))
    assert await harness.store.attempts(task.delivery_id) == []


async def test_a_provider_of_another_project_is_not_called(harness, provider, transport):
    harness.config.change(provider, project_id=ids.uuid7())
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    assert transport.requests == []


async def test_a_provider_whose_credentials_cannot_be_decrypted_is_not_called(harness, provider, transport):
    harness.config.change(provider, encrypted_credentials=b"\x01short")
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    assert (transport.requests, len(harness.rerouted)) == ([], 1)


async def test_new_credentials_are_used_for_the_next_attempt(harness, provider, transport):
    await harness.handle(harness.a_record(await harness.a_delivery(), provider))
    encrypted = CIPHER.encrypt(b'{"host": "elsewhere", "port": 26}', project_id=PROJECT, provider_id=provider.id)
    harness.config.change(provider, encrypted_credentials=encrypted, version=2)

    await harness.handle(harness.a_record(await harness.a_delivery(), provider))

    assert [request.server.host for request in transport.requests] == ["localhost", "elsewhere"]


@pytest.mark.parametrize("value", [b"", None, b"{]", b"{}", b"[" * 100_000])
async def test_an_unreadable_assignment_is_dead_lettered(harness, value):
    await harness.handle(FakeRecord(value, topic="deliveries.email"))

    assert len(harness.bus.on("dead.letters")) == 1


async def test_an_assignment_that_postgresql_cannot_store_is_dead_lettered_alone(harness, provider, transport):
    good, bad = await harness.a_delivery(), await harness.a_delivery()

    await harness.handle(harness.a_record(bad, provider, reference="NUL \x00"), harness.a_record(good, provider))

    assert len(harness.bus.on("dead.letters")) == 1
    assert await harness.store.state(good.delivery_id) == "SENT"


async def test_unreadable_content_is_dead_lettered_and_its_lease_expires(harness, provider, transport):
    task = await harness.a_delivery(content='{"channel": "email"}')

    await harness.handle(harness.a_record(task, provider))

    assert (transport.requests, harness.worker.in_flight, len(harness.bus.on("dead.letters"))) == ([], 0, 1)


async def test_a_record_that_is_no_longer_owned_is_not_processed(harness, provider, transport):
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider, owned=False))

    assert (transport.requests, await harness.store.state(task.delivery_id)) == ([], "QUEUED")


async def test_a_slow_provider_uses_only_its_own_slots(harness, provider, transport):
    other = an_smtp(2, settings={"concurrency": 1})
    harness.config.change(provider, settings={"concurrency": 1})
    harness.config.providers[other.id] = other
    async with harness.unanswered(*await harness.some(3, provider)):
        await wait_until(lambda: len(transport.requests) == 1)

        await harness.worker.handle_batch(await harness.some(1, other))

        await wait_until(lambda: len(transport.requests) == 2)
        await wait_until(lambda: bulkheads() == (2, 2, 2, 2))
    await wait_until(lambda: bulkheads() == (2, 0, 0, 0))


def bulkheads():
    """Slots, used slots, waiting deliveries, and providers without a free slot."""
    measured = (metrics.BULKHEAD_SLOTS, metrics.BULKHEAD_SLOTS_USED, metrics.BULKHEAD_WAITING)
    found = [sum(samples(metric, package="provider-smtp").values()) for metric in measured]
    return (*found, sum(samples(metrics.SATURATED_PROVIDERS).values()))


@pytest.mark.parametrize(("concurrency", "calls"), [(3, 3), (1, 1)])
async def test_the_concurrency_of_a_provider_can_change_while_it_is_used(
    harness, provider, transport, concurrency, calls
):
    harness.config.change(provider, settings={"concurrency": 2})
    await harness.handle(harness.a_record(await harness.a_delivery(), provider))
    harness.config.change(provider, settings={"concurrency": concurrency}, version=provider.version + 1)
    transport.requests.clear()

    async with harness.unanswered(*await harness.some(5, provider)):
        await wait_until(lambda: len(transport.requests) >= calls)
        await asyncio.sleep(0.2)  # time for more calls

        assert len(transport.requests) == calls


async def test_a_provider_with_a_call_rate_gets_as_many_calls_as_there_are_permits(
    harness, provider, transport, monkeypatch
):
    harness.config.change(provider, settings={"calls_per_second": 100})
    left = [2]

    async def take(requests):
        (request,) = requests
        granted = min(request.wanted, left[0])
        left[0] -= granted
        return {request.provider_id: granted}, time.monotonic() + 60.0

    monkeypatch.setattr(harness.worker._permits._source, "take", take)
    records = await harness.some(5, provider)

    await harness.worker.handle_batch(records)

    await wait_until(lambda: len(transport.requests) == 2)
    await asyncio.sleep(0.2)  # time for more calls
    assert len(transport.requests) == 2
    left[0] = 10
    await wait_until(lambda: all(one.acked for one in records))
    assert (len(transport.requests), left[0]) == (5, 7)


async def test_a_call_rate_is_kept_without_redis(harness, provider, transport):
    harness.config.change(provider, settings={"calls_per_second": 4})

    await harness.handle(*await harness.some(6, provider))

    assert len(transport.requests) == 6


async def test_an_urgent_message_acquires_the_next_free_slot(harness, provider, transport):
    harness.config.change(provider, settings={"concurrency": 1})
    transport.gate.clear()
    tasks = [await harness.a_delivery() for _ in range(3)] + [
        await harness.a_delivery(delivery_class=DeliveryClass.URGENT)
    ]
    records = [harness.a_record(task, provider) for task in tasks]
    await harness.worker.handle_batch(records[:3])
    await harness.worker.handle_batch(records[3:])

    transport.gate.set()

    await wait_until(lambda: all(one.acked for one in records))
    begun = [(await harness.store.attempts(task.delivery_id))[0]["started_at"] for task in tasks]
    assert begun[0] < begun[3] < begun[1] < begun[2]


async def test_nothing_is_rerouted_while_the_other_providers_are_saturated_too(harness, provider):
    other = an_smtp(2)
    harness.config.providers[other.id] = other
    for row in (provider, other):
        harness.config.change(row, settings={"concurrency": 1})

    async with harness.unanswered(*await harness.some(2, provider), *await harness.some(2, other)):
        await asyncio.sleep(1.0)  # the queue timeout is 0.4 s

        assert harness.rerouted == []


async def test_a_delivery_that_waits_too_long_is_rerouted_if_another_provider_has_a_free_slot(harness, provider):
    harness.config.change(provider, settings={"concurrency": 1})
    other = an_smtp(2)
    harness.config.providers[other.id] = other

    async with harness.unanswered(*await harness.some(3, provider)):
        await wait_until(lambda: len(harness.rerouted) == 2)

        assert {back.deprioritized for back in harness.rerouted} == {(provider.id,)}
        assert {back.attempted_providers for back in harness.rerouted} == {()}


async def test_new_deliveries_do_not_wait_for_an_unresponsive_provider(harness, provider, transport):
    harness.config.change(provider, settings={"concurrency": 1})
    other = an_smtp(2)
    harness.config.providers[other.id] = other
    first, second, third = await harness.some(3, provider)
    async with harness.unanswered(first):
        await wait_until(lambda: unresponsive_reports(harness))

        await harness.worker.handle_batch([second])
        for _ in range(5):
            await asyncio.sleep(0)

        assert [back.deprioritized for back in harness.rerouted] == [(provider.id,)]
    await wait_until(lambda: second.acked)
    await harness.handle(third)
    assert (len(transport.requests), len(harness.rerouted)) == (2, 1)


def unresponsive_reports(harness):
    events = [orjson.loads(value) for value in harness.bus.on("delivery.events")]
    return [event for event in events if event["type"] == "provider_unresponsive"]


async def test_an_unresponsive_provider_is_reported_repeatedly(harness, provider):
    harness.config.change(provider, settings={"concurrency": 2})

    async with harness.unanswered(*await harness.some(2, provider)):
        await wait_until(lambda: len(unresponsive_reports(harness)) == 2)

    report = ProviderUnresponsive.model_validate(unresponsive_reports(harness)[0])
    assert (report.provider_id, report.project_id, report.channel, report.concurrency) == (
        provider.id,
        PROJECT,
        provider.channel,
        2,
    )


async def test_a_fast_provider_is_found_unresponsive_early_and_its_deliveries_are_rerouted(long_timeout, provider):
    long_timeout.config.change(provider, settings={"concurrency": 12})
    other = an_smtp(2)
    long_timeout.config.providers[other.id] = other
    await long_timeout.handle(*await long_timeout.some(12, provider))

    async with long_timeout.unanswered(*await long_timeout.some(14, provider)):
        await wait_until(lambda: len(unresponsive_reports(long_timeout)) == 1 and len(long_timeout.rerouted) == 2)


async def test_a_provider_that_hangs_is_reported_although_calls_go_on_to_begin_and_slots_are_free(
    long_timeout, provider
):
    await long_timeout.handle(*await long_timeout.some(3, provider))
    records = []

    async def reported():
        records.extend(await long_timeout.some(1, provider))
        await long_timeout.worker.handle_batch(records[-1:])
        return unresponsive_reports(long_timeout)

    async with long_timeout.unanswered():
        await wait_until(reported)

        assert not any(one.acked for one in records)
    await wait_until(lambda: all(one.acked for one in records))


async def test_few_unanswered_calls_are_no_evidence_before_the_queue_timeout(long_timeout, provider):
    long_timeout.config.change(provider, settings={"concurrency": 2})
    await long_timeout.handle(*await long_timeout.some(2, provider))

    async with long_timeout.unanswered(*await long_timeout.some(2, provider)):
        await asyncio.sleep(1.0)  # four times the timeout of many calls

        assert unresponsive_reports(long_timeout) == []


async def test_a_provider_with_a_free_slot_is_not_reported(harness, provider):
    harness.config.change(provider, settings={"concurrency": 2})

    async with harness.unanswered(*await harness.some(1, provider)):
        await asyncio.sleep(1.0)  # the queue timeout is 0.4 s

        assert unresponsive_reports(harness) == []


async def test_a_provider_is_not_reported_because_postgresql_is_slow(harness, provider, transport):
    harness.config.change(provider, settings={"concurrency": 1})
    record = harness.a_record(await harness.a_delivery(), provider)
    async with harness.store.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE deliveries")
        await harness.worker.handle_batch([record])
        await asyncio.sleep(1.0)  # the queue timeout is 0.4 s

    await wait_until(lambda: record.acked)
    assert (unresponsive_reports(harness), len(transport.requests)) == ([], 1)


async def test_a_delivery_without_another_provider_stays_enqueued(harness, provider):
    harness.config.change(provider, settings={"concurrency": 1})
    tasks = [await harness.a_delivery() for _ in range(3)]

    async with harness.unanswered(*[harness.a_record(task, provider) for task in tasks]):
        await asyncio.sleep(1.0)  # the queue timeout is 0.4 s

    assert [await harness.store.state(task.delivery_id) for task in tasks] == ["SENT"] * 3
    assert harness.rerouted == []


async def test_a_late_acceptance_settles_a_delivery_that_waits_for_a_retry(harness, provider, transport):
    task = await harness.a_delivery()

    async with harness.unanswered(harness.a_record(task, provider)):
        await wait_until(lambda: transport.requests)
        await harness.store.transitioned(
            a_transition(task.delivery_id, EventType.ATTEMPT_FAILED, outcome="unknown", unknown=True, due_at=utc_now())
        )

    assert await harness.store.history(task.delivery_id) == ["accepted", "sending", "attempt_failed", "sent"]
    assert await harness.store.state(task.delivery_id) == "SENT"


async def test_a_receipt_by_id_finds_a_delivery_whose_acceptance_was_late(store, bus):
    sendgrid = a_sendgrid()
    harness = WorkerHarness(store, bus, StubConfig(sendgrid), None)
    http = FakeTransport(httpx.Response(202, headers={"x-message-id": "their-1"}))
    async with a_worker(harness, http=http) as harness.worker:
        task, record = await a_late_acceptance(harness, sendgrid, http)
        http.gate.set()
        await wait_until(lambda: record.acked)

    assert [one["provider_message_id"] for one in await store.attempts(task.delivery_id)] == ["their-1"]
    assert await receipt_by_id(store, sendgrid, "their-1") == [True]
    assert await store.history(task.delivery_id) == ["accepted", "sending", "attempt_failed", "sent", "delivered"]


async def test_a_late_acceptance_waits_for_the_database(store, bus, monkeypatch):
    sendgrid = a_sendgrid()
    harness = WorkerHarness(store, bus, StubConfig(sendgrid), None)
    http = FakeTransport(httpx.Response(202, headers={"x-message-id": "their-1"}))
    apply, faults = receipts.apply, [ConnectionResetError()]

    async def failing_once(*args, **options):
        applied = await apply(*args, **options)
        if faults:
            raise faults.pop()
        return applied

    monkeypatch.setattr(receipts, "apply", failing_once)
    async with a_worker(harness, http=http) as harness.worker:
        task, record = await a_late_acceptance(harness, sendgrid, http)
        http.gate.set()
        await wait_until(lambda: record.acked)

    assert await receipt_by_id(store, sendgrid, "their-1") == [True]
    assert await store.history(task.delivery_id) == ["accepted", "sending", "attempt_failed", "sent", "delivered"]


# -- in-doubt commits ------------------------------------------------------------------------------------------------


def lose_the_first_answer(monkeypatch, name):
    """Let the first call of a store function raise although PostgreSQL has committed it."""
    function, calls = getattr(deliveries, name), []

    async def losing(*args, **options):
        result = await function(*args, **options)
        calls.append(result)
        if len(calls) == 1:
            raise ConnectionResetError
        return result

    monkeypatch.setattr(deliveries, name, losing)
    return calls


async def test_a_claim_whose_commit_is_in_doubt_is_made_once(harness, provider, transport, monkeypatch):
    tries = lose_the_first_answer(monkeypatch, "claim")
    task = await harness.a_delivery(delivery_class=DeliveryClass.ONCE)

    await harness.handle(harness.a_record(task, provider))

    assert [[one is not None for one in results] for results in tries] == [[True], [False]]
    assert (len(transport.requests), await harness.store.state(task.delivery_id)) == (1, "SENT")
    assert await harness.store.history(task.delivery_id) == ["accepted", "sending", "sent"]


async def test_a_claim_in_doubt_does_not_take_the_claim_of_another_worker(harness, provider, transport, monkeypatch):
    task = await harness.a_delivery()
    claim = deliveries.claim

    async def losing_the_race(db, claims, **options):
        monkeypatch.setattr(deliveries, "claim", claim)
        assert await claim(db, claims, lease=seconds(12), claim_id=uuid4())  # of the other worker, with this record
        raise ConnectionResetError

    monkeypatch.setattr(deliveries, "claim", losing_the_race)
    await harness.handle(harness.a_record(task, provider))

    assert (transport.requests, await harness.store.state(task.delivery_id)) == ([], "SENDING")


async def test_a_claim_in_doubt_is_not_called_at_the_end_of_its_lease(harness, provider, transport, monkeypatch):
    lose_the_first_answer(monkeypatch, "claim")
    monkeypatch.setattr(claims, "_RETRY_DELAY", 0.6)
    async with a_worker(harness, attempt_lease=1.5) as harness.worker:  # no call begins in the last second of a lease
        task = await harness.a_delivery()
        await harness.handle(harness.a_record(task, provider))

    assert transport.requests == []
    (attempt,) = await harness.store.attempts(task.delivery_id)
    assert attempt["outcome"] == "provider_fault"  # not unknown: the next attempt cannot cause a duplicate
    assert attempt["scope"] == "message"  # no evidence about the provider


async def test_a_claim_in_doubt_is_not_called_after_the_expiry(harness, provider, transport, monkeypatch):
    lose_the_first_answer(monkeypatch, "claim")
    monkeypatch.setattr(claims, "_RETRY_DELAY", 1.2)
    task = await harness.a_delivery(expires_at=utc_now() + seconds(1))

    await harness.handle(harness.a_record(task, provider))

    assert transport.requests == []
    (attempt,) = await harness.store.attempts(task.delivery_id)
    assert (attempt["outcome"], attempt["scope"]) == ("provider_fault", "message")
    assert [next_task.attempt for next_task in harness.rerouted] == [2]  # the router ends it: it has expired


async def test_a_settlement_whose_commit_is_in_doubt_is_written_once(harness, provider, transport, monkeypatch):
    tries = lose_the_first_answer(monkeypatch, "transition")
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    assert [result.sequences for result in tries] == [[3], [None]]
    assert await harness.store.history(task.delivery_id) == ["accepted", "sending", "sent"]
    assert await harness.store.count("event_outbox") == 1  # the recovery loop publishes the event
    assert harness.events == []


async def test_after_a_settlement_in_doubt_the_next_attempt_is_requested(harness, provider, transport, monkeypatch):
    lose_the_first_answer(monkeypatch, "transition")
    transport.response = DOWN
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    assert [next_task.attempt for next_task in harness.rerouted] == [2]
    assert await harness.store.history(task.delivery_id) == ["accepted", "sending", "attempt_failed"]


def a_sendgrid():
    row = a_provider(1, package="provider-sendgrid")
    encrypted = CIPHER.encrypt(b'{"apiKey": "SG.1"}', project_id=row.project_id, provider_id=row.id)
    return replace(row, encrypted_credentials=encrypted)


async def a_late_acceptance(harness, provider, http):
    """The task and the record of a call that has no response yet; its attempt is settled as unknown."""
    http.gate.clear()
    task = await harness.a_delivery()
    record = harness.a_record(task, provider)
    await harness.worker.handle_batch([record])
    await wait_until(lambda: http.requests)
    lost = a_transition(
        task.delivery_id, EventType.ATTEMPT_FAILED, outcome="unknown", unknown=True, provider_id=provider.id
    )
    assert await harness.store.transitioned(lost)
    return task, record


async def receipt_by_id(store, provider, message_id):
    """Whether a receipt that names the provider's id only leads to an attempt."""
    entry = ReceiptEntry(None, None, provider.id, "one", EventType.DELIVERED, utc_now(), provider_message_id=message_id)
    async with store.rows_of() as db:
        return (await receipts.apply(db, [entry], now=utc_now(), outbox_retry_after=seconds(10))).known


async def test_a_late_failure_changes_nothing(harness, provider, transport):
    transport.response = DOWN
    task = await harness.a_delivery()

    async with harness.unanswered(harness.a_record(task, provider)):
        await wait_until(lambda: transport.requests)
        await harness.store.pool.execute("UPDATE deliveries SET in_flight = false WHERE id = $1", task.delivery_id)

    assert await harness.store.history(task.delivery_id) == ["accepted", "sending"]


# -- slow calls ------------------------------------------------------------------------------------------------------


class DeadlineTransport(FakeTransport):
    """Keeps the deadline of its last call."""

    async def exchange(self, request, *, deadline, on_progress):
        self.deadline = deadline
        return await super().exchange(request, deadline=deadline, on_progress=on_progress)


@pytest.fixture
async def slow(store, bus, provider):
    """A worker with a short lease."""
    harness = WorkerHarness(store, bus, StubConfig(provider), DeadlineTransport(ACCEPTED))
    async with a_worker(harness, attempt_lease=1.5) as harness.worker:
        yield harness


async def due_at(harness, task):
    return (await harness.store.pending(task.delivery_id))["due_at"]


async def test_f12_a_slow_call_keeps_its_lease_and_not_its_record(slow, provider):
    task = await slow.a_delivery()
    record = slow.a_record(task, provider)
    slow.transport.gate.clear()
    await slow.worker.handle_batch([record])
    await wait_until(lambda: slow.transport.requests)
    claimed_until = await due_at(slow, task)

    await wait_until(lambda: record.acked)
    assert await due_at(slow, task) > claimed_until
    assert (await slow.store.state(task.delivery_id), slow.worker.in_flight) == ("SENDING", 1)

    slow.transport.gate.set()
    await wait_until(lambda: slow.worker.in_flight == 0)
    assert (await slow.store.state(task.delivery_id), len(slow.transport.requests)) == ("SENT", 1)


async def test_f12_a_step_that_outlasts_its_limit_loses_the_lease(slow, provider, monkeypatch):
    monkeypatch.setattr(leases, "_GRACE", 0.0)
    slow.transport.limit = 0.1
    task = await slow.a_delivery()
    slow.transport.gate.clear()
    await slow.worker.handle_batch([slow.a_record(task, provider)])

    await wait_until(lambda: slow.transport.requests)
    first = await due_at(slow, task)
    await asyncio.sleep(2.0)  # more than the lease

    assert await due_at(slow, task) == first < utc_now()
    slow.transport.gate.set()
    await wait_until(lambda: slow.worker.in_flight == 0)


@pytest.mark.parametrize(
    ("delivery_class", "deadline"),
    [(DeliveryClass.URGENT, 15.0), (DeliveryClass.STANDARD, 3600.0), (DeliveryClass.ONCE, 3600.0)],
)
async def test_f12_only_an_urgent_call_has_a_short_deadline(slow, provider, delivery_class, deadline):
    await slow.handle(slow.a_record(await slow.a_delivery(delivery_class=delivery_class), provider))

    assert slow.transport.deadline == deadline


async def test_a_call_that_does_not_end_in_time_at_shutdown_is_cut_off(store, bus, provider):
    harness = WorkerHarness(store, bus, StubConfig(provider), FakeTransport(ACCEPTED))
    harness.transport.gate.clear()
    async with SettlementWriter(store.worker, bus).running() as settlements:
        worker = Worker(
            db=store.worker,
            config=harness.config,
            cipher=CIPHER,
            transports={TransportKind.SMTP: harness.transport},
            publisher=bus,
            settlements=settlements,
            policy=WorkerPolicy(),
        )
        async with worker.running(drain_left=lambda: 0.3):
            task = await harness.a_delivery()
            record = harness.a_record(task, provider)
            await worker.handle_batch([record])
            await wait_until(lambda: harness.transport.requests)

    pending = await store.pending(task.delivery_id)
    assert (record.acked, pending["in_flight"], pending["state"]) == (False, True, "SENDING")


async def test_a_throttled_recipient_does_not_hold_the_account_back(harness, provider, transport, monkeypatch):
    outcome = Throttled("450 greylisted", None, Scope.RECIPIENT)
    monkeypatch.setattr(worker_module, "_DEFAULT_THROTTLE", seconds(3600))
    monkeypatch.setattr(smtp_adapter, "_classify", lambda reply: outcome if reply is DOWN else Accepted("1"))
    transport.response = DOWN
    await harness.handle(harness.a_record(await harness.a_delivery(), provider))
    transport.response = ACCEPTED

    task = await harness.a_delivery()
    await harness.handle(harness.a_record(task, provider))

    assert await harness.store.state(task.delivery_id) == "SENT"


async def test_the_time_that_a_provider_names_for_a_recipient_holds_in_the_next_round(harness, provider, monkeypatch):
    outcome = Throttled("too many equal texts", seconds(3600), Scope.RECIPIENT)
    monkeypatch.setattr(smtp_adapter, "_classify", lambda _: outcome)
    harness.transport.response = DOWN
    before = utc_now()
    task = await harness.a_delivery()
    await harness.handle(harness.a_record(task, provider))
    (rerouted,) = harness.rerouted
    resolution = exhaust_round(rerouted, reason="all failed", at=utc_now(), policy=WorkerPolicy())
    await harness.store.transition(resolution.transition)

    rebuilt = await the_next_task(harness)

    assert (rebuilt.retry_round, rebuilt.attempted_providers) == (2, ())
    assert set(rebuilt.not_before) == {provider.id}
    assert rebuilt.not_before[provider.id] - before >= seconds(3600)


# -- same-key retries --------------------------------------------------------------------------------------------


class RecordingTransport:
    """A provider with an idempotency key: records the references and responds with ``responses`` in order."""

    def __init__(self):
        self.references = []
        self.responses = []

    async def exchange(self, request, *, deadline, on_progress):
        self.references.append(request.headers["Idempotency-Key"])
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response


@pytest.fixture
def recording():
    return RecordingTransport()


def a_resend():
    row = a_provider(1, package="provider-resend")
    encrypted = CIPHER.encrypt(b'{"apiKey": "re_1"}', project_id=row.project_id, provider_id=row.id)
    return replace(row, encrypted_credentials=encrypted)


async def the_next_task(harness):
    """The task that the recovery loop enqueues once the delivery is due."""
    later = utc_now() + seconds(1000)
    (pending,) = await harness.store.dequeued(later)
    return task_for(pending, utc_now(), idempotent=True)


async def test_an_idempotent_provider_receives_one_reference_after_an_unknown_outcome(store, bus, transport, recording):
    resend, smtp = a_resend(), an_smtp(2)
    harness = WorkerHarness(store, bus, StubConfig(resend, smtp), transport)
    recording.responses = [NoAnswerError("timed out"), httpx.Response(200, json={"id": "their-1"})]
    transport.response = DOWN
    async with a_worker(harness, http=recording) as harness.worker:
        task = await harness.a_delivery()
        await harness.handle(harness.a_record(task, resend))
        await harness.handle(harness.a_record(await the_next_task(harness), smtp))

        await harness.handle(harness.a_record(harness.rerouted[-1], resend))

    assert [attempt["outcome"] for attempt in await store.attempts(task.delivery_id)] == [
        "unknown",
        "provider_fault",
        "accepted",
    ]
    assert recording.references == [ids.attempt_reference(task.delivery_id, 1)] * 2


async def test_an_idempotent_provider_receives_a_new_reference_after_a_definite_failure(
    store, bus, transport, recording
):
    resend = a_resend()
    harness = WorkerHarness(store, bus, StubConfig(resend), transport)
    recording.responses = [NotSentError("connection refused"), httpx.Response(200, json={"id": "their-1"})]
    async with a_worker(harness, http=recording) as harness.worker:
        task = await harness.a_delivery()
        await harness.handle(harness.a_record(task, resend))

        await harness.handle(harness.a_record(harness.rerouted[-1], resend))

    assert recording.references == [ids.attempt_reference(task.delivery_id, number) for number in (1, 2)]


async def test_an_assignment_whose_calls_another_worker_makes_is_passed_on_unchanged(store, bus, provider, transport):
    harness = WorkerHarness(store, bus, StubConfig(provider), transport)
    asked = []

    def elsewhere(package):
        asked.append(package)
        return len(asked) == 1

    async with a_worker(harness, elsewhere=elsewhere) as harness.worker:
        task = await harness.a_delivery()
        record = harness.a_record(task, provider)
        await harness.handle(record)

        assert (bus.on("deliveries.email"), bus.on("deliveries.reroute"), transport.requests) == (
            [record.value],
            [],
            [],
        )
        assert await store.attempts(task.delivery_id) == []

        await harness.handle(FakeRecord(record.value, topic="deliveries.email"))

    assert (len(transport.requests), asked) == (1, [provider.package] * 2)
    assert await store.state(task.delivery_id) == "SENT"


async def test_an_assignment_that_cannot_be_passed_on_is_acknowledged_and_falls_due(store, bus, provider, transport):
    harness = WorkerHarness(store, bus, StubConfig(provider), transport)
    bus.unavailable = True
    async with a_worker(harness, elsewhere=lambda package: True) as harness.worker:
        task = await harness.a_delivery()
        await harness.handle(harness.a_record(task, provider))

    assert (await store.pending(task.delivery_id))["due_at"] is not None


async def test_the_built_in_sms_package_without_a_link_captures_and_says_so(store, bus):
    row = a_provider(package="provider-messagepipe", channel=Channel.SMS)
    encrypted = CIPHER.encrypt(b"{}", project_id=row.project_id, provider_id=row.id)
    row = replace(row, encrypted_credentials=encrypted)
    harness = WorkerHarness(store, bus, StubConfig(row), SandboxTransport(partial(sandbox.capture, store.worker)))
    async with a_worker(harness) as harness.worker:
        sms = Sms(sender="ACME", text="Hello")
        task = await harness.a_delivery(
            channel=Channel.SMS, to=("+2348012345678",), content=sms.model_dump_json(), sender="ACME"
        )
        await harness.handle(harness.a_record(task, row))

    (event,) = harness.events
    assert (event.type, event.detail) == ("sent", CAPTURED)
    (captured,) = await sandbox.list_captured(store.operator, project_id=None, limit=9)
    assert (captured.recipient, captured.channel) == ("+2348012345678", "sms")


async def test_the_built_in_sms_package_over_another_package_calls_it_with_the_operators_account(store, bus):
    row = a_provider(package="provider-messagepipe", channel=Channel.SMS)
    calls = []

    class Http:
        async def exchange(self, request, **_):
            calls.append(request)
            return httpx.Response(201, json={"sid": "SM1", "status": "queued"}, request=request)

    account = {"accountSid": "AC" + "0" * 32, "authToken": "token", "from": "ACME"}
    links = {row.package: LinkedAccount(TWILIO, TwilioCredentials.model_validate(account))}
    harness = WorkerHarness(store, bus, StubConfig(row), None)
    async with a_worker(harness, http=Http(), links=links) as harness.worker:
        sms = Sms(sender="", text="Hello")
        task = await harness.a_delivery(channel=Channel.SMS, to=("+2348012345678",), content=sms.model_dump_json())
        await harness.handle(harness.a_record(task, row))

    (request,) = calls
    assert request.url.path == f"/2010-04-01/Accounts/{account['accountSid']}/Messages.json"


async def test_a_call_needs_a_permit_for_each_segment_only_where_the_rate_counts_them(harness, provider):
    by_call, by_segment = an_smtp(settings={"calls_per_second": 9}), an_smtp(settings={"segments_per_second": 9})
    harness.config.providers |= {one.id: one for one in (by_call, by_segment)}
    task = (await harness.a_delivery()).model_copy(update={"segments": 3})

    bulkheads = harness.worker._bulkheads
    jobs = [parse_job(harness.a_record(task, one)) for one in (provider, by_call, by_segment)]

    assert [bulkheads.permits_of(job) for job in jobs] == [1, 1, 3]
    assert [bulkheads.get(job.provider_id).call_rate for job in jobs] == [None, 9, 9]


@pytest.mark.parametrize(("price", "cost"), [({"price": 0.0075}, 7_500), ({"price": 0}, 0), ({}, None)])
async def test_an_attempt_keeps_the_price_that_its_provider_has_then(harness, provider, price, cost):
    harness.config.change(provider, settings=price)
    task = await harness.a_delivery()

    await harness.handle(harness.a_record(task, provider))

    (attempt,) = await harness.store.attempts(task.delivery_id)
    assert attempt["cost"] == cost
