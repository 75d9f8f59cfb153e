"""A worker in process on a real record: claim, call once, settle; whatever comes twice or too late does nothing."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import orjson
import pytest

from router.recovery import task_for
from sluice.bus.messages import DeliveryEvent, DeliveryTask, ProviderUnresponsive
from sluice.delivery.settings import WorkerPolicy
from sluice.delivery.settlement import SettlementWriter
from sluice.delivery.worker import Worker
from sluice.model import ids
from sluice.model.candidate import Candidate
from sluice.model.message import DeliveryClass
from sluice.model.state import EventType
from sluice.providers.contract import TransportKind
from sluice.providers.kit.smtp_types import Phase, SmtpReply
from sluice.runtime.clock import utc_now
from sluice.store.cipher import CredentialCipher
from sluice.transports.provider_call import NoAnswerError, NotSentError
from tests.examples import (
    PROJECT,
    a_message,
    a_provider,
    a_task,
    a_transition,
    an_assignment,
    seconds,
)
from tests.polling import wait_until
from tests.services.fakes import FakeRecord, FakeTransport

pytestmark = pytest.mark.store

TAKEN = SmtpReply(Phase.END_OF_DATA, 250, "2.0.0 Ok: queued as 12345")
DOWN = SmtpReply(Phase.END_OF_DATA, 451, "4.3.0 try again")
REFUSED = SmtpReply(Phase.RCPT, 550, "5.1.1 User unknown", recipient=0)

CIPHER = CredentialCipher(bytes(32))


class StubConfig:
    """The configuration in memory, as far as a worker and a router ask it."""

    def __init__(self, *rows):
        self.providers = {row.id: row for row in rows}

    def candidates(self, project_id, channel):
        return tuple(Candidate(row.id, row.package, row.priority) for row in self.providers.values() if row.enabled)

    def change(self, row, **changes):
        self.providers[row.id] = replace(row, **changes)


def an_smtp(priority=1, **changes):
    """An SMTP server with credentials that open."""
    row = a_provider(priority, **changes)
    encrypted = CIPHER.encrypt(b'{"host": "localhost", "port": 25}', project_id=row.project_id, provider_id=row.id)
    return a_provider(priority, **changes | {"id": row.id, "encrypted_credentials": encrypted})


class WorkerHarness:
    """A worker, what surrounds it, and one way to give it work."""

    def __init__(self, store, bus, config, transport):
        self.store, self.bus, self.config, self.transport = store, bus, config, transport
        self.worker = None

    async def a_delivery(self, **changes):
        """A drive for a delivery that was just accepted."""
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

    def handed_over(self, task, provider, **changes):
        """The assignment as a record."""
        assignment = an_assignment(
            task=task,
            provider_id=provider.id,
            reference=changes.pop("reference", ids.attempt_reference(task.delivery_id, task.attempt)),
        )
        return FakeRecord(assignment.encode(), topic="deliveries.email", **changes)

    async def some(self, count, provider):
        """The assignments of so many new deliveries."""
        return [self.handed_over(await self.a_delivery(), provider) for _ in range(count)]

    async def take(self, *records):
        await self.worker.handle_batch(list(records))
        await wait_until(lambda: all(one.acked for one in records))

    @asynccontextmanager
    async def unanswered(self, *records):
        """Taken over, and while the block runs the far end answers nobody; after it all are finished."""
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
def wire():
    return FakeTransport(TAKEN)


@asynccontextmanager
async def a_worker(working, http=None, **policy):
    async with SettlementWriter(working.store.pool, working.bus).running() as settlements:
        worker = Worker(
            db=working.store.pool,
            config=working.config,
            cipher=CIPHER,
            transports={TransportKind.SMTP: working.transport, TransportKind.HTTP: http},
            publisher=working.bus,
            settlements=settlements,
            policy=WorkerPolicy(**policy),
        )
        async with worker.running():
            yield worker


@pytest.fixture
async def working(store, bus, provider, wire):
    working = WorkerHarness(store, bus, StubConfig(provider), wire)
    async with a_worker(working, provider_queue_timeout=0.4) as working.worker:
        yield working


@pytest.fixture
async def patient(store, bus, provider, wire):
    """As ``working``, with a patience that no test waits out."""
    working = WorkerHarness(store, bus, StubConfig(provider), wire)
    async with a_worker(working, provider_queue_timeout=60.0) as working.worker:
        yield working


async def test_an_assignment_is_sent_and_settled(working, provider, wire):
    task = await working.a_delivery()

    await working.take(working.handed_over(task, provider))

    (attempt,) = await working.store.attempts(task.delivery_id)
    assert (await working.store.state(task.delivery_id), attempt["outcome"], len(wire.requests)) == (
        "SENT",
        "accepted",
        1,
    )
    assert [(event.type, event.outcome) for event in working.events] == [("sent", "accepted")]


async def test_an_assignment_that_comes_twice_is_sent_once(working, provider, wire):
    task = await working.a_delivery()

    await working.take(*[working.handed_over(task, provider) for _ in range(5)])
    await working.take(working.handed_over(task, provider))

    assert len(wire.requests) == 1


async def test_an_old_assignment_beside_the_next_one_does_not_take_its_place(working, provider, wire):
    wire.response = DOWN
    task = await working.a_delivery()
    await working.take(working.handed_over(task, provider))
    wire.response = TAKEN
    following = task.model_copy(update={"attempt": 2})

    await working.take(working.handed_over(task, provider), working.handed_over(following, provider))

    assert await working.store.history(task.delivery_id) == [
        "accepted",
        "sending",
        "attempt_failed",
        "sending",
        "sent",
    ]
    assert [event.attempt for event in working.events] == [1, 2]


async def test_a_cancelled_message_is_not_sent(working, provider, wire):
    task = await working.a_delivery()
    await working.store.cancel(task.message_id)

    await working.take(working.handed_over(task, provider))

    assert (wire.requests, await working.store.state(task.delivery_id)) == ([], "CANCELLED")


async def test_a_message_that_has_expired_is_not_sent(working, provider, wire):
    task = await working.a_delivery(expires_at=utc_now() - seconds(1))

    await working.take(working.handed_over(task, provider))

    assert (wire.requests, await working.store.state(task.delivery_id)) == ([], "EXPIRED")


async def test_a_refused_message_fails_without_another_attempt(working, provider, wire):
    wire.response = REFUSED
    task = await working.a_delivery()

    await working.take(working.handed_over(task, provider))

    assert (await working.store.state(task.delivery_id), working.rerouted) == ("FAILED", [])


@pytest.mark.parametrize("answer", [DOWN, NotSentError("connection refused")], ids=["451", "refused"])
async def test_a_failed_attempt_goes_back_to_the_router(working, provider, wire, answer):
    wire.response = answer
    task = await working.a_delivery()

    await working.take(working.handed_over(task, provider))

    (following,) = working.rerouted
    assert (following.attempt, following.attempted_providers) == (2, (provider.id,))
    assert await working.store.state(task.delivery_id) == "SENDING"


@pytest.mark.parametrize(
    "answer", [NoAnswerError("timed out"), RuntimeError("a bug of the wire"), "no answer of this wire"], ids=str
)
async def test_an_answer_that_was_not_understood_is_unknown(working, provider, wire, answer):
    wire.response = answer
    task = await working.a_delivery(delivery_class=DeliveryClass.ONCE)

    await working.take(working.handed_over(task, provider))

    (attempt,) = await working.store.attempts(task.delivery_id)
    assert (attempt["outcome"], await working.store.state(task.delivery_id)) == ("unknown", "UNCONFIRMED")


async def test_a_disabled_provider_is_not_called(working, provider, wire):
    working.config.change(provider, enabled=False)
    task = await working.a_delivery()

    await working.take(working.handed_over(task, provider))

    (back,) = working.rerouted
    assert (wire.requests, back.attempt, back.deprioritized) == ([], 1, (provider.id,))
    assert await working.store.attempts(task.delivery_id) == []


async def test_a_provider_of_another_project_is_not_called(working, provider, wire):
    working.config.change(provider, project_id=ids.uuid7())
    task = await working.a_delivery()

    await working.take(working.handed_over(task, provider))

    assert wire.requests == []


async def test_a_provider_whose_credentials_do_not_open_is_not_called(working, provider, wire):
    working.config.change(provider, encrypted_credentials=b"\x01short")
    task = await working.a_delivery()

    await working.take(working.handed_over(task, provider))

    assert (wire.requests, len(working.rerouted)) == ([], 1)


async def test_new_credentials_are_used_for_the_next_attempt(working, provider, wire):
    await working.take(working.handed_over(await working.a_delivery(), provider))
    encrypted = CIPHER.encrypt(b'{"host": "elsewhere", "port": 26}', project_id=PROJECT, provider_id=provider.id)
    working.config.change(provider, encrypted_credentials=encrypted, version=2)

    await working.take(working.handed_over(await working.a_delivery(), provider))

    assert [request.server.host for request in wire.requests] == ["localhost", "elsewhere"]


@pytest.mark.parametrize("value", [b"", None, b"{]", b"{}", b"[" * 100_000])
async def test_what_is_no_assignment_is_parked(working, value):
    await working.take(FakeRecord(value, topic="deliveries.email"))

    assert len(working.bus.on("dead.letters")) == 1


async def test_an_assignment_that_the_record_cannot_hold_is_parked_and_harms_no_other(working, provider, wire):
    good, bad = await working.a_delivery(), await working.a_delivery()

    await working.take(working.handed_over(bad, provider, reference="NUL \x00"), working.handed_over(good, provider))

    assert len(working.bus.on("dead.letters")) == 1
    assert await working.store.state(good.delivery_id) == "SENT"


async def test_content_that_cannot_be_read_is_parked_and_lets_its_lease_end(working, provider, wire):
    task = await working.a_delivery(content='{"channel": "email"}')

    await working.take(working.handed_over(task, provider))

    assert (wire.requests, working.worker.in_flight, len(working.bus.on("dead.letters"))) == ([], 0, 1)


async def test_a_record_that_was_taken_away_is_left_to_the_other(working, provider, wire):
    task = await working.a_delivery()

    await working.take(working.handed_over(task, provider, owned=False))

    assert (wire.requests, await working.store.state(task.delivery_id)) == ([], "QUEUED")


async def test_a_slow_provider_holds_only_its_own_slots(working, provider, wire):
    other = an_smtp(2, settings={"concurrency": 1})
    working.config.change(provider, settings={"concurrency": 1})
    working.config.providers[other.id] = other
    async with working.unanswered(*await working.some(3, provider)):
        await wait_until(lambda: len(wire.requests) == 1)

        await working.worker.handle_batch(await working.some(1, other))

        await wait_until(lambda: len(wire.requests) == 2)


@pytest.mark.parametrize(("slots", "afterwards"), [(3, 3), (1, 1)])
async def test_a_provider_may_get_more_slots_or_fewer_while_it_works(working, provider, wire, slots, afterwards):
    working.config.change(provider, settings={"concurrency": 2})
    await working.take(working.handed_over(await working.a_delivery(), provider))
    working.config.change(provider, settings={"concurrency": slots}, version=provider.version + 1)
    wire.requests.clear()

    async with working.unanswered(*await working.some(5, provider)):
        await wait_until(lambda: len(wire.requests) >= afterwards)
        await asyncio.sleep(0.2)  # more would come meanwhile

        assert len(wire.requests) == afterwards


async def test_an_urgent_message_takes_the_next_free_slot(working, provider, wire):
    working.config.change(provider, settings={"concurrency": 1})
    wire.gate.clear()
    tasks = [await working.a_delivery() for _ in range(3)] + [
        await working.a_delivery(delivery_class=DeliveryClass.URGENT)
    ]
    records = [working.handed_over(task, provider) for task in tasks]
    await working.worker.handle_batch(records[:3])
    await working.worker.handle_batch(records[3:])

    wire.gate.set()

    await wait_until(lambda: all(one.acked for one in records))
    begun = [(await working.store.attempts(task.delivery_id))[0]["started_at"] for task in tasks]
    assert begun[0] < begun[3] < begun[1] < begun[2]


async def test_nothing_is_handed_back_while_the_others_are_as_busy(working, provider):
    other = an_smtp(2)
    working.config.providers[other.id] = other
    for row in (provider, other):
        working.config.change(row, settings={"concurrency": 1})

    async with working.unanswered(*await working.some(2, provider), *await working.some(2, other)):
        await asyncio.sleep(1.0)  # the patience here is 0.4 s

        assert working.rerouted == []


async def test_what_waits_too_long_is_handed_back_where_another_could_take_it(working, provider):
    working.config.change(provider, settings={"concurrency": 1})
    other = an_smtp(2)
    working.config.providers[other.id] = other

    async with working.unanswered(*await working.some(3, provider)):
        await wait_until(lambda: len(working.rerouted) == 2)

        assert {back.deprioritized for back in working.rerouted} == {(provider.id,)}
        assert {back.attempted_providers for back in working.rerouted} == {()}


async def test_where_nothing_comes_back_nobody_begins_to_wait(working, provider, wire):
    working.config.change(provider, settings={"concurrency": 1})
    other = an_smtp(2)
    working.config.providers[other.id] = other
    first, second, third = await working.some(3, provider)
    async with working.unanswered(first):
        await asyncio.sleep(0.6)  # patience is 0.4 s

        await working.worker.handle_batch([second])
        for _ in range(5):
            await asyncio.sleep(0)

        assert [back.deprioritized for back in working.rerouted] == [(provider.id,)]
    await wait_until(lambda: second.acked)
    await working.take(third)
    assert (len(wire.requests), len(working.rerouted)) == (2, 1)


def told_silent(working):
    told = [orjson.loads(value) for value in working.bus.on("delivery.events")]
    return [event for event in told if event["type"] == "provider_unresponsive"]


async def test_a_provider_that_answers_nobody_is_told_as_long_as_it_lasts(working, provider):
    working.config.change(provider, settings={"concurrency": 2})

    async with working.unanswered(*await working.some(2, provider)):
        await wait_until(lambda: len(told_silent(working)) == 2)

    silent = ProviderUnresponsive.model_validate(told_silent(working)[0])
    assert (silent.provider_id, silent.project_id, silent.channel, silent.concurrency) == (
        provider.id,
        PROJECT,
        provider.channel,
        2,
    )


async def test_who_answered_quickly_is_called_silent_early_and_passed_by(patient, provider):
    patient.config.change(provider, settings={"concurrency": 12})
    other = an_smtp(2)
    patient.config.providers[other.id] = other
    await patient.take(*await patient.some(12, provider))

    async with patient.unanswered(*await patient.some(14, provider)):
        await wait_until(lambda: len(told_silent(patient)) == 1 and len(patient.rerouted) == 2)


async def test_few_calls_without_an_answer_say_nothing_before_the_patience_is_over(patient, provider):
    patient.config.change(provider, settings={"concurrency": 2})
    await patient.take(*await patient.some(2, provider))

    async with patient.unanswered(*await patient.some(2, provider)):
        await asyncio.sleep(1.0)  # four times what many calls would get

        assert told_silent(patient) == []


async def test_a_provider_with_a_free_slot_is_not_called_silent(working, provider):
    working.config.change(provider, settings={"concurrency": 2})

    async with working.unanswered(*await working.some(1, provider)):
        await asyncio.sleep(1.0)  # the patience here is 0.4 s

        assert told_silent(working) == []


async def test_a_provider_is_not_called_silent_because_the_record_is_slow(working, provider, wire):
    working.config.change(provider, settings={"concurrency": 1})
    record = working.handed_over(await working.a_delivery(), provider)
    async with working.store.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE deliveries")
        await working.worker.handle_batch([record])
        await asyncio.sleep(1.0)  # the patience here is 0.4 s

    await wait_until(lambda: record.acked)
    assert (told_silent(working), len(wire.requests)) == ([], 1)


async def test_what_nobody_else_could_take_keeps_its_place(working, provider):
    working.config.change(provider, settings={"concurrency": 1})
    tasks = [await working.a_delivery() for _ in range(3)]

    async with working.unanswered(*[working.handed_over(task, provider) for task in tasks]):
        await asyncio.sleep(1.0)  # patience is 0.4 s

    assert [await working.store.state(task.delivery_id) for task in tasks] == ["SENT"] * 3
    assert working.rerouted == []


async def test_an_acceptance_that_comes_after_the_lease_settles_what_waits_for_a_repeat(working, provider, wire):
    task = await working.a_delivery()

    async with working.unanswered(working.handed_over(task, provider)):
        await wait_until(lambda: wire.requests)
        await working.store.transitioned(
            a_transition(task.delivery_id, EventType.ATTEMPT_FAILED, outcome="unknown", unknown=True, due_at=utc_now())
        )

    assert await working.store.history(task.delivery_id) == ["accepted", "sending", "attempt_failed", "sent"]
    assert await working.store.state(task.delivery_id) == "SENT"


async def test_a_failure_that_comes_after_the_lease_changes_nothing(working, provider, wire):
    wire.response = DOWN
    task = await working.a_delivery()

    async with working.unanswered(working.handed_over(task, provider)):
        await wait_until(lambda: wire.requests)
        await working.store.pool.execute("UPDATE deliveries SET in_flight = false WHERE id = $1", task.delivery_id)

    assert await working.store.history(task.delivery_id) == ["accepted", "sending"]


# -- a repeat under the provider's own idempotency key -----------------------------------------------------------


class Keeper:
    """A far end with an idempotency key: it takes each reference once, and answers as told."""

    def __init__(self):
        self.references = []
        self.answers = []

    async def exchange(self, request, *, deadline):
        self.references.append(request.headers["Idempotency-Key"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def keeper():
    return Keeper()


def a_resend():
    row = a_provider(1, package="provider-resend")
    encrypted = CIPHER.encrypt(b'{"apiKey": "re_1"}', project_id=row.project_id, provider_id=row.id)
    return replace(row, encrypted_credentials=encrypted)


async def the_next_drive(working):
    """As the recovery loop makes it from the record once the delivery is due."""
    later = utc_now() + seconds(1000)
    (pending,) = await working.store.dequeued(later)
    return task_for(pending, utc_now(), idempotent=True)


async def test_an_idempotent_provider_gets_one_reference_for_what_it_may_have_taken(store, bus, wire, keeper):
    resend, smtp = a_resend(), an_smtp(2)
    working = WorkerHarness(store, bus, StubConfig(resend, smtp), wire)
    keeper.answers = [NoAnswerError("timed out"), httpx.Response(200, json={"id": "their-1"})]
    wire.response = DOWN
    async with a_worker(working, http=keeper) as working.worker:
        task = await working.a_delivery()
        await working.take(working.handed_over(task, resend))
        await working.take(working.handed_over(await the_next_drive(working), smtp))

        await working.take(working.handed_over(working.rerouted[-1], resend))

    assert [attempt["outcome"] for attempt in await store.attempts(task.delivery_id)] == [
        "unknown",
        "provider_fault",
        "accepted",
    ]
    assert keeper.references == [ids.attempt_reference(task.delivery_id, 1)] * 2


async def test_after_a_definite_failure_an_idempotent_provider_gets_a_new_reference(store, bus, wire, keeper):
    resend = a_resend()
    working = WorkerHarness(store, bus, StubConfig(resend), wire)
    keeper.answers = [NotSentError("connection refused"), httpx.Response(200, json={"id": "their-1"})]
    async with a_worker(working, http=keeper) as working.worker:
        task = await working.a_delivery()
        await working.take(working.handed_over(task, resend))

        await working.take(working.handed_over(working.rerouted[-1], resend))

    assert keeper.references == [ids.attempt_reference(task.delivery_id, number) for number in (1, 2)]
