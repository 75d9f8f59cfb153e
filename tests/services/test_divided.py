"""Divided envelopes in a worker with a real database: each recipient is settled once and gets the mail once."""

import httpx
import orjson
import pytest

from router.recovery import task_for
from sluice.model import ids
from sluice.model.message import DeliveryClass
from sluice.model.state import message_state
from sluice.providers.kit.smtp_types import DividedReply, PartReply, Phase, SmtpReply
from sluice.runtime.clock import utc_now
from sluice.store import invariants
from sluice.store.invariants import Window
from sluice.transports.provider_call import NoAnswerError
from tests.examples import an_email, seconds
from tests.polling import wait_until
from tests.services.fakes import FakeTransport
from tests.services.test_worker import (
    ACCEPTED,
    DOWN,
    RecordingTransport,
    StubConfig,
    WorkerHarness,
    a_resend,
    a_worker,
    an_smtp,
)

ANA, BEN, EVE = "ana@example.org", "ben@example.org", "eve@example.org"
MAIL = an_email(to=(f"Ana <{ANA}>", BEN), bcc=(EVE,))
UNKNOWN_USER = SmtpReply(Phase.RCPT, 550, "5.1.1 User unknown")
GREYLISTED = SmtpReply(Phase.RCPT, 450, "4.2.0 Greylisted")
NOT_HERE = SmtpReply(Phase.RCPT, 554, "5.7.1 Relay access denied")
NO_REPLY = SmtpReply(Phase.END_OF_DATA, 0, "the server closed the connection")


def divided(*parts):
    return DividedReply(tuple(PartReply(recipients, reply) for recipients, reply in parts))


@pytest.fixture
def provider():
    return an_smtp()


@pytest.fixture
async def harness(store, bus, provider):
    harness = WorkerHarness(store, bus, StubConfig(provider), FakeTransport(ACCEPTED))
    async with a_worker(harness, provider_queue_timeout=60.0) as harness.worker:
        yield harness
    await check_invariants(store)


async def check_invariants(store):
    report = await invariants.check_window(store.operator, Window(ids.UUID(int=0), ids.UUID(int=(1 << 128) - 1)))
    assert report.violations == []


async def a_delivery(harness, **changes):
    return await harness.a_delivery(content=MAIL.model_dump_json(), **changes)


async def states(store, task):
    """Recipient, state and attempts of each delivery of the task's message."""
    found = await store.find(task.message_id)
    return {delivery.recipient: (str(delivery.state), delivery.attempt_count) for delivery in found.deliveries}


async def envelopes(store):
    rows = await store.pool.fetch("SELECT recipient, envelope FROM deliveries")
    return {row["recipient"]: row["envelope"] for row in rows}


async def test_u1_the_good_recipients_get_the_mail_and_the_refused_one_fails(store, harness, provider):
    harness.transport.response = divided(((ANA, EVE), ACCEPTED), ((BEN,), UNKNOWN_USER))
    task = await a_delivery(harness)

    await harness.handle(harness.a_record(task, provider))

    assert await states(store, task) == {ANA: ("SENT", 1), BEN: ("FAILED", 1)}
    assert await envelopes(store) == {ANA: [ANA, EVE], BEN: [BEN]}
    found = await store.find(task.message_id)
    assert found.state == message_state([delivery.state for delivery in found.deliveries]) == "FAILED"
    assert harness.rerouted == []


async def test_u1_the_history_of_the_refused_recipient_tells_why(store, harness, provider):
    harness.transport.response = divided(((ANA, EVE), ACCEPTED), ((BEN,), UNKNOWN_USER))
    task = await a_delivery(harness)

    await harness.handle(harness.a_record(task, provider))

    found = await store.find(task.message_id)
    told = [(event.recipient, event.type, event.attempt, event.detail) for event in found.events]
    assert sorted(told, key=lambda one: one[0]) == [
        (ANA, "accepted", None, ""),
        (ANA, "sending", 1, ""),
        (ANA, "sent", 1, ""),
        (BEN, "accepted", None, ""),
        (BEN, "sending", 1, ""),
        (BEN, "failed", 1, "rcpt: 550 5.1.1 User unknown"),
    ]
    published = {event.type.value: event for event in harness.events}
    assert set(published) == {"sent", "failed"}
    assert published["failed"].reason == "unknown_recipient"
    assert published["failed"].delivery_id != published["sent"].delivery_id == task.delivery_id
    assert {event.sequence for event in harness.events} == {3}


async def test_u1_a_first_recipient_that_is_refused_leaves_the_delivery_to_the_others(store, harness, provider):
    harness.transport.response = divided(((BEN, EVE), ACCEPTED), ((ANA,), UNKNOWN_USER))
    task = await a_delivery(harness)

    await harness.handle(harness.a_record(task, provider))

    assert await states(store, task) == {BEN: ("SENT", 1), ANA: ("FAILED", 1)}


async def test_u1_when_every_recipient_is_refused_each_one_fails_by_itself(store, harness, provider):
    harness.transport.response = divided(((ANA, BEN, EVE), UNKNOWN_USER))
    task = await a_delivery(harness)

    await harness.handle(harness.a_record(task, provider))

    assert await states(store, task) == {ANA: ("FAILED", 1), BEN: ("FAILED", 1), EVE: ("FAILED", 1)}


@pytest.mark.parametrize("reply", [NOT_HERE, GREYLISTED], ids=["declined", "greylisted"])
async def test_a_recipient_that_this_server_does_not_take_goes_to_the_next_provider(store, harness, provider, reply):
    harness.transport.response = divided(((ANA, EVE), ACCEPTED), ((BEN,), reply))
    second = an_smtp(2)
    harness.config.providers[second.id] = second
    task = await a_delivery(harness)

    await harness.handle(harness.a_record(task, provider))
    (next_task,) = harness.rerouted
    harness.transport.response = ACCEPTED
    await harness.handle(harness.a_record(next_task, second))

    assert next_task.attempted_providers == (provider.id,)
    assert [request.recipients for request in harness.transport.requests] == [(ANA, BEN, EVE), (BEN,)]
    assert harness.transport.requests[0].message == harness.transport.requests[1].message
    assert await states(store, task) == {ANA: ("SENT", 1), BEN: ("SENT", 2)}


async def test_an_http_provider_gets_a_mail_that_names_its_recipients_only(store, bus, provider):
    recording = RecordingBodies()
    harness = WorkerHarness(store, bus, StubConfig(provider, a_resend()), FakeTransport(ACCEPTED))
    async with a_worker(harness, http=recording) as harness.worker:
        resend = list(harness.config.providers.values())[1]
        harness.transport.response = divided(((ANA, BEN), ACCEPTED), ((EVE,), NOT_HERE))
        task = await a_delivery(harness)
        await harness.handle(harness.a_record(task, provider))

        await harness.handle(harness.a_record(harness.rerouted[0], resend))

    assert [body["to"] for body in recording.bodies] == [[EVE]]
    assert not {"cc", "bcc"} & set(recording.bodies[0])
    await check_invariants(store)


async def test_an_earlier_reference_is_not_used_for_another_envelope(store, bus, provider):
    """An idempotent provider had the whole mail under the first reference; the rest of it is another request."""
    recording = RecordingTransport()
    resend = a_resend()
    harness = WorkerHarness(store, bus, StubConfig(resend, provider), FakeTransport(ACCEPTED))
    async with a_worker(harness, http=recording) as harness.worker:
        recording.responses = [NoAnswerError("timed out"), NoAnswerError("timed out")]
        task = await a_delivery(harness, delivery_class=DeliveryClass.URGENT)
        await harness.handle(harness.a_record(task, resend))
        harness.transport.response = divided(((ANA, EVE), ACCEPTED), ((BEN,), NOT_HERE))
        await harness.handle(harness.a_record(harness.rerouted[-1], provider))
        await harness.handle(harness.a_record(harness.rerouted[-1], resend))

    first, second = recording.references
    assert first == ids.attempt_reference(task.delivery_id, 1) != second
    await check_invariants(store)


@pytest.mark.parametrize(
    ("delivery_class", "state"), [(DeliveryClass.ONCE, "UNCONFIRMED"), (DeliveryClass.STANDARD, "SENDING")]
)
async def test_a_part_without_a_reply_follows_the_delivery_class(store, harness, provider, delivery_class, state):
    harness.transport.response = divided(((ANA,), ACCEPTED), ((BEN, EVE), NO_REPLY))
    task = await a_delivery(harness, delivery_class=delivery_class)

    await harness.handle(harness.a_record(task, provider))

    assert await states(store, task) == {ANA: ("SENT", 1), BEN: (state, 1)}
    assert harness.rerouted == []


async def test_the_recovery_loop_knows_the_history_of_a_part(store, harness, provider):
    harness.transport.response = divided(((ANA,), ACCEPTED), ((BEN, EVE), GREYLISTED))
    task = await a_delivery(harness)
    await harness.handle(harness.a_record(task, provider))

    row = await store.pool.fetchrow("SELECT id FROM deliveries WHERE recipient = $1", BEN)
    await store.pool.execute("UPDATE deliveries SET enqueued_at = NULL, due_at = now() WHERE id = $1", row["id"])
    (pending,) = await store.dequeued(utc_now() + seconds(10))

    rebuilt = task_for(pending, utc_now())
    assert (rebuilt.delivery_id, rebuilt.attempt) == (row["id"], 2)
    assert (rebuilt.attempted_providers, rebuilt.throttled) == ((provider.id,), True)


async def test_a_part_knows_the_times_of_earlier_attempts(store, harness, provider):
    harness.transport.response = divided(((ANA,), ACCEPTED), ((BEN, EVE), GREYLISTED))
    task = await a_delivery(harness)
    await harness.handle(harness.a_record(task, provider))
    row = await store.pool.fetchrow("SELECT id FROM deliveries WHERE recipient = $1", BEN)
    await store.pool.execute("UPDATE attempts SET retry_after_s = 600 WHERE delivery_id = $1", row["id"])
    harness.transport.response = divided(((BEN,), ACCEPTED), ((EVE,), GREYLISTED))

    await harness.handle(harness.a_record(harness.rerouted[-1], provider))

    copied = "SELECT a.retry_after_s FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE recipient = $1"
    assert 600 in [each["retry_after_s"] for each in await store.pool.fetch(copied, EVE)]


async def test_a_divided_outcome_after_the_lease_changes_nothing(store, harness, provider):
    harness.transport.response = divided(((ANA, EVE), ACCEPTED), ((BEN,), UNKNOWN_USER))
    task = await a_delivery(harness)

    async with harness.unanswered(harness.a_record(task, provider)):
        await wait_until(lambda: harness.transport.requests)
        await store.pool.execute(
            "UPDATE attempts SET outcome = 'unknown', finished_at = now() WHERE delivery_id = $1", task.delivery_id
        )
        await store.pool.execute(
            "UPDATE deliveries SET in_flight = false, unknown_attempts = 1 WHERE id = $1", task.delivery_id
        )

    assert await store.history(task.delivery_id) == ["accepted", "sending"]
    assert await store.pool.fetchval("SELECT count(*) FROM deliveries") == 1


async def test_two_divided_deliveries_and_a_whole_one_in_one_batch(store, harness, provider):
    harness.transport.response = divided(((ANA, EVE), ACCEPTED), ((BEN,), UNKNOWN_USER))
    tasks = [await a_delivery(harness) for _ in range(3)]
    records = [harness.a_record(task, provider) for task in tasks]
    async with harness.unanswered(*records):
        await wait_until(lambda: len(harness.transport.requests) == 3)

    assert [await states(store, task) for task in tasks] == [{ANA: ("SENT", 1), BEN: ("FAILED", 1)}] * 3


async def test_the_events_of_a_part_are_published_again_from_the_database(store, harness, provider, bus):
    bus.unavailable = True
    harness.transport.response = divided(((ANA, EVE), ACCEPTED), ((BEN,), UNKNOWN_USER))
    task = await a_delivery(harness)

    await harness.handle(harness.a_record(task, provider))

    (row,) = await store.pool.fetch("SELECT delivery_ids, sequences FROM event_outbox")
    assert (len(set(row["delivery_ids"])), list(row["sequences"])) == (2, [3, 3])
    bus.unavailable = False


async def test_a_mail_that_one_server_refuses_whole_is_not_divided(store, harness, provider):
    harness.transport.response = DOWN
    task = await a_delivery(harness)

    await harness.handle(harness.a_record(task, provider))

    assert await envelopes(store) == {"ada@example.com": None}


class RecordingBodies:
    """A provider over HTTP that accepts everything."""

    def __init__(self):
        self.bodies = []

    async def exchange(self, request, *, deadline, on_progress):
        self.bodies.append(orjson.loads(request.content))
        return httpx.Response(200, json={"id": "their-1"})
