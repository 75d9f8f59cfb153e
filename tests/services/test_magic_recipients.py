"""Magic recipients: a worker with the sandbox and a real database, to the last event."""

from functools import partial

import pytest

from sluice.delivery.outbox import OutboxPublisher
from sluice.delivery.receipts import ReceiptSink
from sluice.delivery.sandbox_receipts import write_due_receipts
from sluice.model.candidate import Candidate
from sluice.model.message import Channel, Email, Sms
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime.clock import utc_now
from sluice.store import sandbox
from sluice.transports.sandbox import SandboxTransport
from tests.examples import OTHER_PROJECT, PROJECT, seconds
from tests.services.test_worker import StubConfig, WorkerHarness, a_worker

SANDBOX = Candidate(SANDBOX_PROVIDER_ID, "provider-sandbox", 0)

CASES = [
    ("delivered", 1, "DELIVERED", ["sent", "delivered"]),
    ("bounced", 2, "BOUNCED", ["sent", "bounced"]),
    ("soft_bounce", 3, "SOFT_BOUNCE", ["sent", "soft_bounce"]),
    ("complained", 4, "COMPLAINED", ["sent", "delivered", "complained"]),
    ("failed", 5, "FAILED", ["failed"]),
    ("throttled", 6, "DELIVERED", ["attempt_failed", "sent", "delivered"]),
    ("unknown", 7, "SENDING", ["attempt_failed"]),
]


@pytest.fixture
async def harness(store, bus):
    harness = WorkerHarness(store, bus, StubConfig(), SandboxTransport(partial(sandbox.capture, store.worker)))
    async with a_worker(harness) as harness.worker:
        yield harness


async def deliver(harness, bus, **message):
    """The state and the types of the events, after the attempts that follow at once and the due receipts."""
    task = (await harness.a_delivery(sandbox=True, **message)).model_copy(update={"sandbox": True})
    await harness.handle(harness.a_record(task, SANDBOX))
    for again in harness.rerouted:
        await harness.handle(harness.a_record(again, SANDBOX))
    pool = harness.store.worker
    async with OutboxPublisher(pool, bus).running() as outbox, ReceiptSink(pool, outbox).running() as sink:
        early = await write_due_receipts(pool, sink, now=utc_now() - seconds(5))
        for _ in range(2):
            await write_due_receipts(pool, sink, now=utc_now() + seconds(5))
        late = await write_due_receipts(pool, sink, now=utc_now() + seconds(60))
    assert (early, late) == (0, 0)
    return await harness.store.state(task.delivery_id), [event.type for event in harness.events]


@pytest.mark.parametrize(("name", "number", "state", "events"), CASES)
async def test_a_magic_address_yields_its_outcome(harness, bus, name, number, state, events):
    mail = Email(sender="a@example.com", to=(f"Ada <{name}+tag@sandbox.example>",), subject="x", text="x")

    found = await deliver(harness, bus, content=mail.model_dump_json(), to=mail.to)

    assert found[0] == state
    assert [event for event in found[1] if event in events] == events


@pytest.mark.parametrize(("name", "number", "state", "events"), CASES)
async def test_a_magic_number_yields_its_outcome(harness, bus, name, number, state, events):
    sms = Sms(sender="ACME", text="x")
    to = (f"+44770090000{number}",)

    found = await deliver(harness, bus, channel=Channel.SMS, to=to, content=sms.model_dump_json(), sender="ACME")

    assert found[0] == state
    assert [event for event in found[1] if event in events] == events


@pytest.mark.parametrize("to", ["delivered@example.com", "other@sandbox.example", "delivered@x.sandbox.example"])
async def test_other_recipients_stay_sent(harness, bus, to):
    mail = Email(sender="a@example.com", to=(to,), subject="x", text="x")

    state, _ = await deliver(harness, bus, content=mail.model_dump_json(), to=mail.to)

    assert state == "SENT"


async def test_receipts_of_several_projects_fall_due_together(harness, bus):
    mail = Email(sender="a@example.com", to=("delivered@sandbox.example",), subject="x", text="x")
    tasks = []
    for project_id in (PROJECT, OTHER_PROJECT):
        task = await harness.a_delivery(sandbox=True, project_id=project_id, content=mail.model_dump_json(), to=mail.to)
        tasks.append(task.model_copy(update={"sandbox": True, "project_id": project_id}))
    await harness.handle(*(harness.a_record(task, SANDBOX) for task in tasks))

    pool = harness.store.worker
    async with OutboxPublisher(pool, bus).running() as outbox, ReceiptSink(pool, outbox).running() as sink:
        written = await write_due_receipts(pool, sink, now=utc_now() + seconds(5))

    assert written == 2
    assert [await harness.store.state(task.delivery_id) for task in tasks] == ["DELIVERED", "DELIVERED"]
